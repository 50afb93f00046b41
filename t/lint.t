#!/usr/bin/perl
# The sources keep to the style, as far as a machine can tell.
use strict;
use warnings;
use Test::More;
use Millgate::Test;

my ($status, $output) = run_command(source_dir() . '/t/lint/lint',
    source_dir());
is($status, 0, 'lint') or diag($output);

done_testing;
