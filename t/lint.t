#!/usr/bin/perl
# The sources keep to the style, as far as a machine can tell.
use strict;
use warnings;
use Test::More;
use Millgate::Test;

my ($status, $output) = run_command(source_dir() . '/t/lint/lint',
    source_dir());
is($status, 0, 'lint') or diag($output);

# Those that are made of the sources' tables.
for my $page (map { build_dir() . "/doc/$_" } qw(millgate.conf.5
    millgate-reasons.7)) {
	($status, $output) = run_command('mandoc', '-Tlint', '-W', 'warning',
	    $page);
	is("$status $output", '0 ', "mandoc finds nothing in $page");
}

done_testing;
