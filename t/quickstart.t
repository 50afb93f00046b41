#!/usr/bin/perl
# The first thing that a visitor does works: ./quickstart --demo, and the
# gateway that ./quickstart leaves running.
use strict;
use warnings;
use Test::More;
use Millgate::Test;

my $quickstart = source_dir() . '/quickstart';

my ($status, $output) = run_command($quickstart, '--demo');
is($status, 0, 'the demonstration ends well') or diag($output);
like($output, qr/^DKIM-Signature: .*d=example\.org/m,
    'a real milter signed the message');
like($output, qr/^Authentication-Results: /m, 'our filters marked it');
like($output, qr/opendkim: took/, 'the explanation names the milter');
like($output, qr/delivery to <bob\@example\.org>: sent/,
    'and the delivery');

my $pid = start_process('quickstart', [ $quickstart ]);
my $log = test_dir() . '/quickstart.log';
wait_for('the gateway', sub { read_file($log) =~ /: ready: / }, 300);
my $smtp = new_smtp(port => 2525);
like($smtp->deliver(to => 'bob@example.org'), qr/^250 2\.0\.0/,
    'it takes mail on port 2525');
my ($mail) = read_file($log) =~ /configuration: (\S+)\/millgate\.conf/;
wait_for('delivery', sub { scalar(() = glob "$mail/mail/new/*") });
pass('and delivers it');
stop_process($pid);

done_testing;
