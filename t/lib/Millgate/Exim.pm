package Millgate::Exim;

# Debian's Exim as a client of the policy service.  It can't be installed beside
# Postfix, so it is run from where etc/debian/extract unpacked it.

use strict;
use warnings;

use Exporter 'import';
use Millgate::Test;

our @EXPORT = qw(start_exim);

# The user that Debian's Exim looks for is made up for it alone.
sub with_exim_user {
	my ($directory, @command) = @_;
	my $passwd = write_file("$directory/passwd", read_file('/etc/passwd') .
	    "Debian-exim:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
	    0644);
	my $group = write_file("$directory/group", read_file('/etc/group') .
	    "Debian-exim:x:65534:\n", 0644);

	return ('unshare', '--mount', 'sh', '-c',
	    "mount --bind $passwd /etc/passwd && " .
	    "mount --bind $group /etc/group && exec \"\$@\"", 'sh', @command);
}

my $count = 0;

# start_exim(acl => 'lines', next_hop => port): takes mail for anybody from
# loopback, runs the ACL for each recipient.
sub start_exim {
	my (%options) = @_;

	needs_root('an Exim');
	my $directory = test_dir() . '/exim' . $count++;
	my $port = free_port();

	mkdir $_ for $directory, "$directory/spool", "$directory/log";
	chmod 0777, "$directory/spool", "$directory/log";
	my $conf = write_file("$directory/conf", <<"END", 0644);
primary_hostname = exim.example.test
spool_directory = $directory/spool
log_file_path = $directory/log/%s
pid_file_path = $directory/pid
daemon_smtp_ports = $port
local_interfaces = 127.0.0.1
tls_advertise_hosts =
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = rcpt

begin acl
rcpt:
$options{acl}
accept

begin routers
all:
  driver = manualroute
  domains = *
  transport = out
  route_list = * 127.0.0.1
  self = send

begin transports
out:
  driver = smtp
  port = $options{next_hop}
  allow_localhost
  hosts_try_fastopen =
END
	my $pid = start_process("exim$count", [ with_exim_user($directory,
	    unpacked() . '/usr/sbin/exim4', '-C', $conf, '-bdf', '-q1h') ]);
	wait_for_port($port);
	return { pid => $pid, port => $port, log => "$directory/log" };
}

1;
