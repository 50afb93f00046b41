#!/usr/bin/perl
# Every fuzz target is built and takes its seeds; make fuzz looks for more.
use strict;
use warnings;
use Test::More;
use Millgate::Test;

my $fuzz = source_dir() . '/t/fuzz';

for my $source (sort glob "$fuzz/fuzz_*.c") {
	my ($name) = $source =~ m{/fuzz_(\w+)\.c\z};
	my @seeds = sort glob "$fuzz/corpus/$name/*";

	cmp_ok(@seeds, '>', 0, "$name has seeds");
	my ($status, $output) = run_command(
	    build_dir() . "/t/fuzz/fuzz_$name", @seeds);
	is($status, 0, "$name takes " . @seeds . ' seeds') or diag($output);
}

done_testing;
