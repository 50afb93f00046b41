package Millgate::Milters;

# Milters of others, as the tests ask them.  Some take seconds to start, so
# each start_NAME only begins and returns a peer; ready(@peers) waits for all
# of them.  $peer->kill ends one without a word, as a crash does; $peer->run
# begins it again.  What a peer listens at is $peer->{endpoint}.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use IO::Socket::UNIX;
use Millgate::Test;

our @EXPORT = qw(ready pass_through recipients start_amavis start_clamav
    start_mimedefang start_opendmarc start_pymilter start_spamassassin);

sub peer { return Millgate::Milters::Peer->new(@_) }

sub ready {
	my (@peers) = @_;

	for my $peer (map { @{ $_->{behind} // [] }, $_ } @peers) {
		# It might give up on what it doesn't find.
		$peer->run unless defined $peer->{pid};
		wait_for("$peer->{name} to listen",
		    sub { $peer->listens }, 60);
	}
}

# A directory in which a daemon that runs as nobody may write.
sub directory {
	my ($name) = @_;
	my $path = test_dir() . "/$name";

	mkdir $path;
	chown 65534, 65534, $path if $> == 0;
	chmod 0750, $path;
	return $path;
}

# --- one for each daemon ---

# start_pymilter(): what it's asked in fields X-Test; t/lib/pymilter tells.
sub start_pymilter {
	my $port = free_port();
	my $script = write_file('pymilter',
	    read_file(source_dir() . '/t/lib/pymilter'), 0644);

	return peer(name => 'pymilter', port => $port, command =>
	    [ as_nobody('/usr/bin/python3', $script, $port) ]);
}

# start_opendmarc([dns => "name type text\n"...]): trusts the
# Authentication-Results of mx.example.test and refuses or holds by them.
# Without dns it asks the servers of resolv.conf.
sub start_opendmarc {
	my (%options) = @_;
	my $dir = directory('opendmarc');
	my $port = free_port();

	my $dns = defined $options{dns} ? 'TestDNSData ' .
	    write_file("$dir/dns", $options{dns}) : '';
	# Else it passes over clients at 127.0.0.1.
	write_file("$dir/ignore", "192.0.2.99\n");
	write_file("$dir/conf", <<"END");
AuthservID mx.example.test
TrustedAuthservIDs mx.example.test
Socket inet:$port\@127.0.0.1
Background false
Syslog false
RejectFailures true
HoldQuarantinedMessages true
SPFSelfValidate false
HistoryFile $dir/history
$dns
IgnoreHosts $dir/ignore
END
	return peer(name => 'opendmarc', port => $port, command =>
	    [ as_nobody('/usr/sbin/opendmarc', '-f', '-c', "$dir/conf") ]);
}

# A command line that runs under a host name that has an address everywhere:
# MIMEDefang looks its own up.
sub as_localhost {
	return @_ if $> != 0;
	return ('unshare', '--uts', 'sh', '-c',
	    'hostname localhost && exec "$@"', 'sh', @_);
}

# start_mimedefang(filter): the multiplexor, and the milter before it.
sub start_mimedefang {
	my ($filter) = @_;
	my $dir = directory('mimedefang');
	my $port = free_port();

	directory('mimedefang/spool');
	write_file("$dir/filter.pl", $filter, 0644);
	# The multiplexor passes no path of a filter on.
	write_file("$dir/worker", "#!/bin/sh\n" .
	    "exec /usr/bin/mimedefang.pl -f $dir/filter.pl \"\$\@\"\n", 0755);
	my $multiplexor = peer(name => 'multiplexor', path => "$dir/mx.sock",
	    command => [ as_nobody('/usr/bin/mimedefang-multiplexor', '-D',
	    '-m', 1, '-x', 2, '-z', "$dir/spool", '-s', "$dir/mx.sock",
	    '-f', "$dir/worker") ]);
	return peer(name => 'mimedefang', port => $port,
	    behind => [ $multiplexor ], command =>
	    [ as_localhost(as_nobody('/usr/bin/mimedefang', '-D', '-s', '-m',
	    "$dir/mx.sock", '-p', "inet:$port\@127.0.0.1", '-z',
	    "$dir/spool")) ]);
}

# start_spamassassin(name => [options of spamass-milter], ...): spamd, and a
# milter before it for each name.  Returns the milters in that order.
sub start_spamassassin {
	my (@milters) = @_;
	my $port = free_port();
	my $dir = directory('spamd');
	my $spamd = peer(name => 'spamd', port => $port, command =>
	    [ as_nobody('/usr/sbin/spamd', '-L', '-x', '--listen',
	    "127.0.0.1:$port", '--max-children=1', '--syslog=stderr',
	    '-H', $dir) ], environment => { HOME => $dir });
	my @peers;

	while (my ($name, $arguments) = splice @milters, 0, 2) {
		my $own = free_port();

		push @peers, peer(name => $name, port => $own, behind =>
		    [ $spamd ], command => [ as_nobody(
		    '/usr/sbin/spamass-milter', '-p',
		    "inet:$own\@127.0.0.1", '-D', '127.0.0.1', @$arguments,
		    '--', '-p', $port) ]);
	}
	return @peers;
}

# clamd with signatures of one harmless test file.
sub start_clamd {
	my $dir = directory('clamd');
	my $eicar = 'X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-' .
	    'TEST-FILE!$H+H*';

	mkdir "$dir/db";
	write_file("$dir/db/eicar.ndb", 'Eicar-Test-Sig:0:*:' .
	    unpack('H*', $eicar) . "\n", 0644);
	chmod 0755, $dir, "$dir/db";
	write_file("$dir/conf", <<"END", 0644);
Foreground true
DatabaseDirectory $dir/db
LocalSocket $dir/socket
LocalSocketMode 666
TemporaryDirectory $dir
MaxThreads 4
ScanMail true
END
	return peer(name => 'clamd', path => "$dir/socket", command =>
	    [ as_nobody('/usr/sbin/clamd', '-c', "$dir/conf") ]);
}

# start_clamav(name => "further settings", ...): clamd, and a clamav-milter for
# each name.  Returns the milters in that order.
sub start_clamav {
	my (@milters) = @_;
	my $clamd = start_clamd();
	my @peers;

	while (my ($name, $more) = splice @milters, 0, 2) {
		my $port = free_port();
		my $conf = write_file("$name.conf", <<"END" . $more, 0644);
Foreground yes
MilterSocket inet:$port\@127.0.0.1
ClamdSocket unix:$clamd->{path}
AddHeader Replace
END
		push @peers, peer(name => $name, port => $port,
		    behind => [ $clamd ], command => [ as_nobody(
		    '/usr/sbin/clamav-milter', '-c', $conf) ]);
	}
	return @peers;
}

# start_amavis(clamd, settings): amavisd, and amavisd-milter before it.  The
# milter passes the listener's name on as that of a policy bank.
sub start_amavis {
	my ($clamd, $settings) = @_;
	my $dir = directory('amavis');
	my $port = free_port();

	directory("amavis/$_") for qw(tmp db home);
	# amavisd doesn't take one that its user could write.
	my $conf = write_file('amavis.conf', <<"END" . $settings, 0644);
use strict;
\$MYHOME = '$dir/home'; \$TEMPBASE = '$dir/tmp'; \$db_home = '$dir/db';
\$QUARANTINEDIR = undef; \$helpers_home = '$dir/home';
\$pid_file = '$dir/pid'; \$lock_file = '$dir/lock';
\$daemon_user = 'nobody'; \$daemon_group = 'nogroup';
\$mydomain = 'example.test'; \$myhostname = 'amavis.example.test';
\$max_servers = 1; \$enable_db = 0; \$enable_zmq = 0; \$do_syslog = 0;
\$log_level = 1; \$DEBUG = 0;
\$inet_socket_port = undef; \$unix_socketname = '$dir/amavisd.sock';
\$interface_policy{'SOCK'} = 'AM.PDP-SOCK';
\$policy_bank{'AM.PDP-SOCK'} = { protocol => 'AM.PDP',
    auth_required_release => 0 };
\@bypass_spam_checks_maps = (1);
\@av_scanners = (['ClamAV', \\&ask_daemon,
    ["CONTSCAN {}\\n", '$clamd->{path}'],
    qr/\\bOK\$/m, qr/\\bFOUND\$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND\$/m]);
\@av_scanners_backup = ();
END
	my $amavisd = peer(name => 'amavisd', path => "$dir/amavisd.sock",
	    command => [ as_nobody('/usr/sbin/amavisd', '-c', $conf,
	    'foreground') ]);
	return peer(name => 'amavisd-milter', port => $port,
	    behind => [ $amavisd, $clamd ], command => [ as_nobody(
	    '/usr/sbin/amavisd-milter', '-f', '-B', '-s',
	    "inet:$port\@127.0.0.1", '-S', "$dir/amavisd.sock", '-w',
	    "$dir/tmp", '-p', "$dir/milter.pid") ]);
}

# --- messages through them ---

# pass_through(gate, port, %options): sends a message, with options as those
# of deliver(), to a listener of a Millgate that delivers to maildir:@DIR@/mail.
# (the last reply, its queue id, what was delivered)
my $number = 0;
sub pass_through {
	my ($gate, $port, %options) = @_;
	my $name = "$$." . $number++;
	my $client = new_smtp(port => $port);

	$options{data} //= message();
	$options{data} = "X-Number: $name\r\n$options{data}";
	my $reply = $client->deliver(%options);
	$client->command('QUIT');
	$client->close;
	my ($id) = $reply =~ /^250 .*queued as (\w+)/ or return ($reply);
	$gate->wait_log(qr/$id: (?:to=<.*status=|.*\(hold\)|discard)/);
	$gate->wait_log(qr/$id: removed/) if $gate->log =~ /$id: to=/;
	return ($reply, $id, grep { /^X-Number: $name\r?$/m }
	    map { read_file($_) } glob "$gate->{dir}/mail/new/*");
}

# The recipients that a message was delivered to.
sub recipients {
	my ($gate, $id) = @_;
	return sort $gate->log =~ /$id: to=<([^>]+)>.*status=sent/g;
}

package Millgate::Milters::Peer;

# new(name =>, command =>, port => or path =>, [behind => [peers]],
# [environment => {}])
sub new {
	my ($class, %self) = @_;
	my $self = bless { %self, endpoint => $self{port} ?
	    "inet:$self{port}\@127.0.0.1" : "unix:$self{path}" }, $class;

	$self->run unless $self->{behind};
	return $self;
}

sub run {
	my ($self) = @_;

	unlink $self->{path} if $self->{path};
	$self->{pid} = Millgate::Test::start_process($self->{name},
	    $self->{command}, environment => $self->{environment});
}

sub listens {
	my ($self) = @_;
	return IO::Socket::UNIX->new(Peer => $self->{path}) if $self->{path};
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1',
	    PeerPort => $self->{port}, Timeout => 1);
}

# With what it started: workers would keep the port.
sub kill {
	my ($self) = @_;

	return unless defined $self->{pid};
	CORE::kill 'KILL', Millgate::Test::process_tree($self->{pid});
	Millgate::Test::stop_process(delete $self->{pid});
}

sub log {
	my ($self) = @_;
	return Millgate::Test::read_file(Millgate::Test::test_dir() .
	    "/$self->{name}.log");
}

1;
