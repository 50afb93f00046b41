#!/usr/bin/perl
# The build's compiler has been through the sources; so has clang, whose
# warnings are others, with the same flags.
use strict;
use warnings;
use Test::More;
use Millgate::Test;

my ($status, $output) = run_command('make', '-s', '-C', build_dir(), 'syntax');

is($status, 0, 'clang warns of nothing') or diag($output);

done_testing;
