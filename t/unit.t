#!/usr/bin/perl
# Runs the CUnit programs and reports each of their suites.
use strict;
use warnings;
use Test::More;
use Millgate::Test;

for my $folder (qw(base policy filters gateway)) {
	my ($status, $output) = run_command(
	    build_dir() . "/t/unit/unit-$folder");
	my ($asserts, $failed) =
	    $output =~ /asserts\s+(\d+)\s+\d+\s+\d+\s+(\d+)/;

	ok($status == 0 && ($asserts // 0) > 0,
	    "$folder: " . ($asserts // 0) . ' assertions') or
	    diag(join "\n", grep { !/passed$/ } split /\n/, $output);
}

done_testing;
