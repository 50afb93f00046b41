#!/usr/bin/perl
# make install puts everything in its place, and make uninstall takes all of it
# away again but what the operator has made.
use strict;
use warnings;
use Test::More;
use Millgate::Test;

my $to = test_dir() . '/root';
my @make = ('make', '-s', '-C', build_dir(), "DESTDIR=$to");
my %configured = read_file(build_dir() . '/Makefile') =~
    /^(prefix|sysconfdir) = (.*)/mg;
my $prefix = $configured{prefix};
my $etc = $configured{sysconfdir} =~ s/\$\{prefix\}/$prefix/r . '/millgate';

sub files {
	my (undef, $list) = run_command('find', $to, '-type', 'f', '-printf',
	    "%P\n");
	return sort grep { !m{/doc/millgate/[A-Z]} } map { "/$_" }
	    split /\n/, $list;
}

my ($status, $output) = run_command(@make, 'install');
is($status, 0, 'make install') or diag($output);
is(join("\n", files()), join("\n", map { "$prefix/$_" } qw(
    lib/systemd/system/millgate.service
    lib/sysusers.d/millgate.conf
    sbin/millgate
    sbin/millgatectl
    share/doc/millgate/examples/exim-policy.acl
    share/doc/millgate/examples/forwarding.conf
    share/doc/millgate/examples/inbound.conf
    share/doc/millgate/examples/milter.conf
    share/doc/millgate/examples/outbound.conf
    share/doc/millgate/examples/policy.conf
    share/doc/millgate/examples/rules.conf
    share/man/man5/millgate.conf.5
    share/man/man7/millgate-reasons.7
    share/man/man8/millgate.8
    share/man/man8/millgatectl.8)), 'what is installed');
ok(-d "$to$etc", 'a directory for the configuration');

my $unit = read_file("$to$prefix/lib/systemd/system/millgate.service");
my @programs = $unit =~ m{^Exec(?:Start|StartPre)=(\S+)}mg;
cmp_ok(@programs, '>', 0, 'the unit starts something');
ok(-x "$to$_", "the unit runs $_, which is there") for @programs;

write_file("$to$etc/millgate.conf", "hostname = mx.test\n");
($status, $output) = run_command(@make, 'uninstall');
is($status, 0, 'make uninstall') or diag($output);
is(join(' ', files()), "$etc/millgate.conf",
    'only the configuration is left');

done_testing;
