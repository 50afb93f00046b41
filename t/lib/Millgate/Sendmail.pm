package Millgate::Sendmail;

# Debian's Sendmail as a client of milters.  It can't be installed beside
# Postfix, so it is run from where etc/debian/extract unpacked it.

use strict;
use warnings;

use Exporter 'import';
use Millgate::Test;

our @EXPORT = qw(start_sendmail);

# start_sendmail(next_hop => port, milters => [ 'inet:port@127.0.0.1', ... ],
# [mc => 'lines']): takes mail from loopback, asks the milters, and gives it to
# the next hop before it answers.
my $count = 0;
sub start_sendmail {
	my (%options) = @_;

	needs_root('a Sendmail with a host name of its own');
	my $directory = test_dir() . '/sendmail' . $count++;
	my $cf = unpacked() . '/usr/share/sendmail/cf/';
	my $port = free_port();
	my $number = 0;
	my $filters = join '', map { sprintf "INPUT_MAIL_FILTER(`f%d', " .
	    "`S=%s, F=T, T=C:10s;S:10s;R:10s;E:1m')dnl\n", $number++, $_ }
	    @{ $options{milters} // [] };
	# However busy the machine is, nothing waits in the queue.
	my %patient = map { $_ => 10000 } qw(confQUEUE_LA confREFUSE_LA);
	# /tmp, above the sockets, is everybody's.
	my %define = (%patient, confDOMAIN_NAME => 'sendmail.example.test',
	    confDONT_BLAME_SENDMAIL => 'TrustStickyBit',
	    QUEUE_DIR => "$directory/queue", STATUS_FILE => "$directory/status",
	    confPID_FILE => "$directory/pid", ALIAS_FILE => '',
	    confTO_RESOLVER_RETRANS => '1s', confTO_RESOLVER_RETRY => 1,
	    confDELIVERY_MODE => 'interactive',
	    confDONT_PROBE_INTERFACES => 'True',
	    SMART_HOST => 'relay:[127.0.0.1]',
	    RELAY_MAILER_ARGS => "TCP \$h $options{next_hop}");
	my $defines = join '', map { "define(`$_', `$define{$_}')dnl\n" }
	    sort keys %define;

	mkdir $_ for $directory, "$directory/queue";
	my $mc = write_file("$directory/sendmail.mc", <<"END");
include(`${cf}m4/cf.m4')dnl
OSTYPE(`linux')dnl
$defines${filters}FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Name=MTA,Addr=127.0.0.1,Port=$port')dnl
@{[ $options{mc} // '' ]}MAILER(`smtp')dnl
END
	my ($status, $output) = run_command('m4', "-D_CF_DIR_=$cf", $mc);
	die "m4: $output" if $status != 0;
	write_file("$directory/sendmail.cf", $output);

	# A host name without a domain would make it wait for a better one.
	my $pid = start_process('sendmail', [ 'unshare', '--uts', 'sh', '-c',
	    'hostname sendmail.example.test && exec "$0" "$@"',
	    unpacked() . '/usr/libexec/sendmail/sendmail', '-bD',
	    '-C', "$directory/sendmail.cf", '-X', "$directory/traffic" ]);
	wait_for_port($port);
	return { port => $port, pid => $pid, dir => $directory,
	    traffic => "$directory/traffic",
	    stop => sub { stop_process($pid) } };
}

1;
