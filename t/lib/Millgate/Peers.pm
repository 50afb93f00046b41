package Millgate::Peers;

# The real daemons that tests talk to, each on loopback in the test's directory.
# Every function returns a hash reference with at least a pid, or an object that
# stops what it started when the test ends.

use strict;
use warnings;

use Exporter 'import';
use Millgate::Test;
use Time::HiRes qw(sleep);

our @EXPORT = qw(start_dns start_dovecot start_redis redis_cli
    start_sentinel start_redis_cluster start_opendkim start_postfix
    start_postfix_asking policy_request ask_policy start_sink mailbox dkim_key dkim_python start_pmilter
    start_mailfromd start_rspamd start_slapd);

# start_dns(zone => [lines], ..., [-address => A], [-port => N]): an NSD that is
# the authority for the zones.
sub start_dns {
	my (%zones) = @_;
	my $dir = test_dir() . '/nsd';
	my $address = delete $zones{-address} // '127.0.0.1';
	my $port = delete $zones{-port} // free_port();

	mkdir $dir;
	my $conf = <<"END";
server:
	ip-address: $address\@$port
	zonesdir: "$dir"
	database: ""
	pidfile: "$dir/pid"
	zonelistfile: "$dir/list"
	xfrdfile: "$dir/xfrd"
	xfrdir: "$dir"
	username: ""
	chroot: ""
	server-count: 1
	verbosity: 1
remote-control:
	control-enable: no
END
	for my $zone (sort keys %zones) {
		write_file("$dir/$zone.zone", "\$ORIGIN $zone.\n\$TTL 60\n" .
		    "@ SOA ns.$zone. admin.$zone. 1 60 60 60 60\n" .
		    "@ NS ns.$zone.\nns A 127.0.0.1\n" .
		    join('', map { "$_\n" } @{ $zones{$zone} }));
		$conf .= "zone:\n\tname: \"$zone\"\n" .
		    "\tzonefile: \"$zone.zone\"\n";
	}
	write_file("$dir/nsd.conf", $conf);
	my $pid = start_process('nsd', [ '/usr/sbin/nsd', '-d', '-c',
	    "$dir/nsd.conf" ]);
	my ($first) = sort keys %zones;
	wait_for('nsd', sub {
		my ($status, $output) = run_command('dig', '+short',
		    '+time=1', '+tries=1', '-p', $port, "\@$address", $first,
		    'SOA');
		return $status == 0 && $output =~ /admin/;
	});
	return { pid => $pid, port => $port, stubs => join(', ',
	    map { "\"$_=$address\@$port\"" } sort keys %zones) };
}

# A Dovecot that takes any user of example.test by LMTP, on a port and on a
# UNIX socket, into plain maildirs.  quota: rule such as "10K".  Its functions
# stop and start end it and begin it again.  users: { name => password }; then
# these alone exist, and it answers for them on the UNIX socket auth.  strict:
# it takes mail for no others, either.
sub start_dovecot {
	my (%options) = @_;
	my $dir = test_dir() . '/dovecot';
	my $port = free_port();
	my ($user, $group, $uid, $gid) = $> == 0 ?
	    ('nobody', 'nogroup', 65534, 65534) :
	    ((getpwuid $>)[0], (getgrgid $))[0], $>, $) + 0);
	my $quota = $options{quota} ? <<"END" : '';
mail_plugins = quota
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=$options{quota}
}
protocol lmtp {
  mail_plugins = quota
}
END

	my $passwords = 'driver = static
  args = nopassword=y';
	my $auth = '';
	my $all = $options{strict} ? '' : ' allow_all_users=yes';
	my $format = $options{strict} ? 'auth_username_format = %Ln' : '';

	mkdir $_ for $dir, "$dir/mail", "$dir/run", "$dir/state";
	if ($options{users}) {
		write_file("$dir/passwd", join('', map {
		    "$_:{PLAIN}$options{users}{$_}\n" }
		    sort keys %{ $options{users} }), 0644);
		$passwords = "driver = passwd-file\n  args = $dir/passwd";
		$auth = <<"END";
auth_mechanisms = plain login cram-md5 scram-sha-256
auth_failure_delay = 0
service auth {
  unix_listener $dir/auth.sock {
    mode = 0666
  }
}
END
	}
	chown $uid, $gid, "$dir/mail" if $> == 0;
	write_file("$dir/dovecot.conf", <<"END" . $quota . $auth);
base_dir = $dir/run
state_dir = $dir/state
protocols = lmtp
ssl = no
log_path = $dir/log
default_internal_user = $user
default_login_user = $user
default_internal_group = $group
mail_location = maildir:$dir/mail/%n
first_valid_uid = $uid
first_valid_gid = $gid
recipient_delimiter = +
$format
passdb {
  $passwords
}
userdb {
  driver = static
  args = uid=$uid gid=$gid home=$dir/mail/%n$all
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = $port
  }
  unix_listener $dir/lmtp.sock {
    mode = 0666
  }
}
service anvil {
  chroot =
}
END
	my $self = { port => $port, socket => "$dir/lmtp.sock",
	    auth => "$dir/auth.sock",
	    mail => "$dir/mail" };
	$self->{start} = sub {
		$self->{pid} = start_process('dovecot',
		    [ '/usr/sbin/dovecot', '-F', '-c', "$dir/dovecot.conf" ]);
		wait_for_port($port);
	};
	$self->{stop} = sub { stop_process($self->{pid}) };
	$self->{start}->();
	return $self;
}

# The messages in a user's maildir, as text.
sub mailbox {
	my ($dovecot, $user) = @_;
	my $dir = ref $dovecot ? "$dovecot->{mail}/$user" : $dovecot;

	return map { read_file($_) } sort glob "$dir/new/*";
}

# start_redis([port => N], [appendonly => 'yes'], [arguments => [...]])
sub start_redis {
	my (%options) = @_;
	my $port = $options{port} // free_port();
	my $dir = test_dir() . "/redis$port";

	mkdir $dir;
	my $pid = start_process("redis$port", [ '/usr/bin/redis-server',
	    '--port', $port, '--bind', '127.0.0.1', '--dir', $dir, '--save',
	    '', '--appendonly', $options{appendonly} // 'no',
	    @{ $options{arguments} // [] } ]);
	wait_for_port($port);
	return { pid => $pid, port => $port };
}

# redis_cli(port, words...): what Redis answers.
sub redis_cli {
	my ($port, @words) = @_;
	my (undef, $output) = run_command('redis-cli', '-p', $port, @words);

	return $output;
}

# start_sentinel(port of the master): one that is enough to decide, and knows
# the master as "main".
sub start_sentinel {
	my ($master) = @_;
	my $port = free_port();
	my $file = write_file("sentinel$port.conf", <<"END");
port $port
bind 127.0.0.1
dir @{[ test_dir() ]}
sentinel monitor main 127.0.0.1 $master 1
sentinel down-after-milliseconds main 500
sentinel failover-timeout main 3000
END
	my $pid = start_process("sentinel$port", [ '/usr/bin/redis-server',
	    $file, '--sentinel' ]);

	wait_for_port($port);
	return { pid => $pid, port => $port };
}

# start_redis_cluster(masters, replicas): each replica is one of the master of
# its number.  Returns the nodes, masters first, with their ids.
sub start_redis_cluster {
	my ($masters, $replicas) = @_;
	my @nodes = map { start_redis(arguments => [ '--cluster-enabled',
	    'yes', '--cluster-port', free_port(), '--cluster-node-timeout',
	    '1000', '--cluster-replica-validity-factor', '0' ]) }
	    1 .. $masters + $replicas;

	for my $i (0 .. $#nodes) {
		my $node = $nodes[$i];
		($node->{bus}) = redis_cli($node->{port},
		    qw(config get cluster-port)) =~ /(\d+)\s*\z/;
		($node->{id}) = redis_cli($node->{port},
		    qw(cluster myid)) =~ /(\w+)/;
		redis_cli($node->{port}, qw(cluster set-config-epoch),
		    $i + 1);
		redis_cli($node->{port}, qw(cluster meet 127.0.0.1),
		    $nodes[0]{port}, $nodes[0]{bus}) if $i > 0;
		redis_cli($node->{port}, qw(cluster addslotsrange),
		    int($i * 16384 / $masters),
		    int(($i + 1) * 16384 / $masters) - 1) if $i < $masters;
	}
	for my $i ($masters .. $#nodes) {
		wait_for('the replica', sub { redis_cli($nodes[$i]{port},
		    qw(cluster replicate), $nodes[$i - $masters]{id}) =~
		    /OK/ });
		wait_for('its copy', sub { redis_cli($nodes[$i]{port},
		    qw(info replication)) =~ /master_link_status:up/ });
	}
	for my $node (@nodes) {
		wait_for('the cluster', sub {
			my $info = redis_cli($node->{port}, qw(cluster info));
			return $info =~ /cluster_state:ok/ &&
			    $info =~ /cluster_size:$masters\b/;
		});
	}
	return @nodes;
}

# dkim_key(name, bits): makes a key pair; (path of the key, TXT record's text).
sub dkim_key {
	my ($name, $bits) = @_;
	my $key = test_dir() . "/$name.key";

	my ($status, $output) = run_command('openssl', 'genpkey', '-quiet',
	    $bits ? ('-algorithm', 'RSA', '-pkeyopt', "rsa_keygen_bits:$bits")
	    : ('-algorithm', 'ed25519'), '-out', $key);
	($status, $output) = run_command('openssl', 'genpkey',
	    $bits ? ('-algorithm', 'RSA', '-pkeyopt', "rsa_keygen_bits:$bits")
	    : ('-algorithm', 'ed25519'), '-out', $key) if $status != 0;
	die "openssl: $output" if $status != 0;
	chmod 0644, $key;
	my (undef, $pem) = run_command('openssl', 'pkey', '-in', $key,
	    '-pubout');
	my $type = $bits ? 'rsa' : 'ed25519';
	$pem =~ s/-----[^-]+-----//g;
	$pem =~ s/\s//g;
	if (!$bits) {
		# RFC 8463: the bare key, without the structure around it.
		require MIME::Base64;
		$pem = MIME::Base64::encode_base64(substr(
		    MIME::Base64::decode_base64($pem), -32), '');
	}
	my $text = "v=DKIM1; k=$type; p=$pem";
	return ($key, join ' ', map { "\"$_\"" } $text =~ /(.{1,200})/g);
}

# dkim_python(text, arguments...): what t/lib/dkim-python prints for the text.
sub dkim_python {
	my ($text, @arguments) = @_;
	my $input = write_file('dkim-input', $text);
	my ($status, $output) = run_command('sh', '-c',
	    'exec "$0" "$@" <' . $input, source_dir() . '/t/lib/dkim-python',
	    @arguments);

	die "dkim-python: $output" if $status != 0;
	return $output;
}

# start_pmilter(mode, port): a filter on the Perl engine, which speaks version
# 2 of the protocol; t/lib/pmilter tells of the modes.
sub start_pmilter {
	my ($mode, $port) = @_;
	# A checkout below a closed home directory can't be read by nobody.
	my $script = write_file("pmilter-$mode",
	    read_file(source_dir() . '/t/lib/pmilter'), 0644);
	my $pid = start_process("pmilter-$mode", [ as_nobody($^X, $script,
	    $mode, $port) ]);

	wait_for_port($port);
	return { pid => $pid, endpoint => "inet:$port\@127.0.0.1" };
}

# start_mailfromd(program): Mailfromd, which has a protocol engine of its own.
sub start_mailfromd {
	my ($program) = @_;
	my $dir = test_dir() . '/mailfromd';
	my $port = free_port();

	mkdir $dir;
	chmod 0777, $dir;
	write_file("$dir/program.mfl", $program);
	my $pid = start_process('mailfromd', [ as_nobody('/usr/sbin/mailfromd',
	    '--foreground', '--stderr', "--port=inet://127.0.0.1:$port",
	    "--state-directory=$dir", "--pidfile=$dir/pid",
	    "$dir/program.mfl") ]);
	wait_for_port($port);
	return { pid => $pid, endpoint => "127.0.0.1:$port" };
}

# Rspamd as a milter that knows nothing but the test pattern GTUBE.
sub start_rspamd {
	my $dir = test_dir() . '/rspamd';
	my $port = free_port();

	mkdir $_ for $dir, map { "$dir/$_" } qw(db run log);
	chmod 0777, $dir, map { "$dir/$_" } qw(db run log);
	# The full list takes a minute to compile.
	write_file("$dir/tld.dat", "com\nnet\norg\ntest\n");
	write_file("$dir/conf", <<"END");
options {
  url_tld = "$dir/tld.dat"; hs_cache_dir = "$dir/db"; filters = "";
  pidfile = "$dir/run/pid"; cache_file = "$dir/db/cache";
  control_socket = "$dir/run/control mode=0600"; enable_test_patterns = true;
  dns { nameserver = ["127.0.0.1:9"]; timeout = 100ms; retransmits = 1 }
}
logging { type = "console"; level = "info" }
actions { reject = 15; add_header = 6 }
worker "rspamd_proxy" {
  bind_socket = "127.0.0.1:$port"; milter = yes; timeout = 120s; count = 1;
  upstream "local" { default = yes; self_scan = yes }
}
END
	my $pid = start_process('rspamd', [ as_nobody('/usr/bin/rspamd', '-f',
	    '-c', "$dir/conf", "--var=DBDIR=$dir/db", "--var=RUNDIR=$dir/run",
	    "--var=LOGDIR=$dir/log") ]);
	wait_for_port($port);
	return { pid => $pid, endpoint => "127.0.0.1:$port" };
}

# start_slapd(user => { attribute => value }, ..., [-tls => [certificate, key]]):
# a directory with an inetOrgPerson for each user below dc=example,dc=test; cn=reader
# with the password "secret" may read it, nobody else.  Its functions stop and
# start end it and begin it again.
my $slapd_count = 0;
sub start_slapd {
	my (%users) = @_;
	my $dir = test_dir() . '/slapd' . $slapd_count++;
	my $tls = delete $users{-tls};
	my $port = free_port();
	my $scheme = $tls ? 'ldaps' : 'ldap';

	mkdir $_ for $dir, "$dir/db";
	write_file("$dir/slapd.conf", join("\n",
	    (map { "include /etc/ldap/schema/$_.schema" }
		qw(core cosine inetorgperson)),
	    'modulepath /usr/lib/ldap', 'moduleload back_mdb',
	    $tls ? ("TLSCertificateFile $tls->[0]",
		"TLSCertificateKeyFile $tls->[1]") : (),
	    "pidfile $dir/pid", 'database mdb', 'maxsize 1048576',
	    'suffix dc=example,dc=test', 'rootdn cn=reader,dc=example,dc=test',
	    'rootpw secret', "directory $dir/db", 'access to * by * none',
	    ''));
	my $ldif = write_file("$dir/ldif", join('', map { "$_\n\n" }
	    "dn: dc=example,dc=test\nobjectClass: dcObject\n" .
	    "objectClass: organization\no: x\ndc: example",
	    map {
		my $user = $_;
		"dn: uid=$user,dc=example,dc=test\n" .
		"objectClass: inetOrgPerson\ncn: $user\nsn: $user\n" .
		"uid: $user" . join('', map { "\n$_: $users{$user}{$_}" }
		sort keys %{ $users{$user} });
	    } sort keys %users));
	my ($status, $output) = run_command('/usr/sbin/slapadd', '-f',
	    "$dir/slapd.conf", '-l', $ldif);
	die "slapd: $output" if $status != 0;
	my $self = { port => $port };
	$self->{start} = sub {
		$self->{pid} = start_process('slapd', [ '/usr/sbin/slapd', '-f',
		    "$dir/slapd.conf", '-d', '0', '-h',
		    "$scheme://127.0.0.1:$port/" ]);
		wait_for_port($port);
	};
	$self->{stop} = sub { stop_process($self->{pid}) };
	$self->{start}->();
	return $self;
}

# start_opendkim(key => path, domain =>, selector =>, [mode => 's'|'v'|'sv'],
# [port =>], [name =>])
sub start_opendkim {
	my (%options) = @_;
	my $name = $options{name} // 'opendkim';
	my $dir = test_dir() . "/$name";
	my $socket = $options{port} ? "inet:$options{port}\@127.0.0.1" :
	    "local:$dir/sock";

	mkdir $dir;
	chmod 0777, $dir;
	write_file("$dir/conf", <<"END" . ($options{more} // ''));
Syslog no
Mode @{[ $options{mode} // 's' ]}
Domain $options{domain}
Selector $options{selector}
KeyFile $options{key}
Socket $socket
InternalHosts 127.0.0.1
RequireSafeKeys no
UMask 000
END
	my $pid = start_process($name, [ as_nobody('/usr/sbin/opendkim',
	    '-f', '-x', "$dir/conf") ]);
	if ($options{port}) {
		wait_for_port($options{port});
	} else {
		wait_for('opendkim', sub { -S "$dir/sock" });
	}
	return { pid => $pid, endpoint => $options{port} ?
	    "inet:$options{port}\@127.0.0.1" : "unix:$dir/sock" };
}

# start_postfix(main => { name => value }, [address => A], [port => N],
# [services => [[name, rest], ...]]): an instance of its own, with more lines in
# its master.cf.
my $postfix_count = 0;
sub start_postfix {
	my (%options) = @_;

	needs_root('a Postfix');
	my $dir = test_dir() . '/postfix' . $postfix_count++;
	my $port = $options{port} // free_port();
	my $address = $options{address} // '127.0.0.1';
	my %main = (compatibility_level => '3.6',
	    queue_directory => "$dir/queue", data_directory => "$dir/data",
	    command_directory => '/usr/sbin',
	    daemon_directory => '/usr/lib/postfix/sbin',
	    mail_owner => 'postfix', setgid_group => 'postdrop',
	    myhostname => 'postfix.example.test', mydestination => '',
	    inet_interfaces => '127.0.0.1', inet_protocols => 'ipv4',
	    mynetworks => '127.0.0.0/8', alias_maps => '',
	    smtpd_peername_lookup => 'no', maillog_file => "$dir/log",
	    maillog_file_prefixes => $dir, %{ $options{main} // {} });
	my $service = sub { sprintf "%-12s %s\n", @_ };

	mkdir $_ for $dir, "$dir/etc", "$dir/queue", "$dir/data";
	chown scalar getpwnam('postfix'), -1, "$dir/data";
	write_file("$dir/etc/main.cf",
	    join '', map { "$_ = $main{$_}\n" } sort keys %main);
	write_file("$dir/etc/master.cf", $service->("$address:$port",
	    'inet n - n - - smtpd') . join('', map { $service->(@$_) }
	    [ 'pickup', 'unix n - n 60 1 pickup' ],
	    [ 'cleanup', 'unix n - n - 0 cleanup' ],
	    [ 'qmgr', 'unix n - n 300 1 qmgr' ],
	    [ 'tlsmgr', 'unix - - n 1000? 1 tlsmgr' ],
	    [ 'rewrite', 'unix - - n - - trivial-rewrite' ],
	    (map { [ $_, 'unix - - n - 0 bounce' ] } qw(bounce defer trace)),
	    [ 'verify', 'unix - - n - 1 verify' ],
	    [ 'flush', 'unix n - n 1000? 0 flush' ],
	    [ 'proxymap', 'unix - - n - - proxymap' ],
	    [ 'smtp', 'unix - - n - - smtp' ],
	    [ 'relay', 'unix - - n - - smtp' ],
	    [ 'lmtp', 'unix - - n - - lmtp' ],
	    [ 'discard', 'unix - - n - - discard' ],
	    [ 'error', 'unix - - n - - error' ],
	    [ 'retry', 'unix - - n - - error' ],
	    [ 'anvil', 'unix - - n - 1 anvil' ],
	    [ 'scache', 'unix - - n - 1 scache' ],
	    [ 'virtual', 'unix - n n - - virtual' ],
	    [ 'postlog', 'unix-dgram n - n - 1 postlogd' ],
	    @{ $options{services} // [] }));
	my ($status, $output) = run_command('/usr/sbin/postfix', '-c',
	    "$dir/etc", 'start');
	die "postfix: $output", read_file("$dir/log") if $status != 0;
	wait_for_port($port);
	my ($pid) = read_file("$dir/queue/pid/master.pid") =~ /(\d+)/;
	push @Millgate::Peers::postfixes, "$dir/etc";
	return { port => $port, pid => $pid, dir => $dir, log => "$dir/log",
	    stop => sub { stop_postfix("$dir/etc") } };
}

# A Postfix that asks the policy service on that port about the recipients of
# strangers.  Its function try sends a message from an address, and returns the
# reply.
sub start_postfix_asking {
	my ($port) = @_;
	my $postfix = start_postfix(main => {
	    mydestination => 'example.test', local_recipient_maps => '',
	    local_transport => 'discard', mynetworks => '192.0.2.0/24',
	    smtpd_relay_restrictions => 'permit_mynetworks, ' .
		'reject_unauth_destination',
	    smtpd_recipient_restrictions => 'permit_mynetworks, ' .
		"check_policy_service inet:127.0.0.1:$port" });

	$postfix->{try} = sub {
		my $smtp = new_smtp(port => $postfix->{port}, local => shift);
		my $reply = $smtp->deliver;
		$smtp->close;
		return $reply;
	};
	return $postfix;
}

# A request of Postfix's for the policy service: each of a message of its own and
# of a stranger, unless the attributes say otherwise.
my $instance = 0;
sub policy_request {
	my (%more) = @_;
	my %attributes = (request => 'smtpd_access_policy',
	    protocol_state => 'RCPT', protocol_name => 'ESMTP',
	    client_address => '198.51.100.7', client_name => 'unknown',
	    helo_name => 'client.example', sender => 'a@sender.test',
	    recipient => 'b@example.test', instance => 'i.' . ++$instance,
	    %more);

	return join('', map { "$_=$attributes{$_}\n" }
	    sort keys %attributes) . "\n";
}

# ask_policy(port, attributes): the first line of the answer.
sub ask_policy {
	my ($port, %more) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
	    PeerPort => $port, Proto => 'tcp') or die "connect: $!";

	print $socket policy_request(%more);
	return scalar(<$socket>) // '';
}

# start_sink([port => N], [replies => { RCPT => '450 4.2.0 later' }]): the
# scripted next hop of sink.pl.  An object: ->replies(...) changes what it says,
# ->messages are those it has taken, ->commands and ->connections what it saw.
my $sink_count = 0;
sub start_sink {
	my (%options) = @_;
	my $self = bless { port => $options{port} // free_port(),
	    dir => test_dir() . '/sink' . $sink_count++ },
	    'Millgate::Peers::Sink';

	mkdir $self->{dir};
	$self->replies(%{ $options{replies} // {} });
	$self->run;
	return $self;
}

package Millgate::Peers::Sink;

sub run {
	my ($self) = @_;

	$self->{pid} = Millgate::Test::start_process('sink', [ $^X,
	    Millgate::Test::source_dir() . '/t/lib/Millgate/sink.pl',
	    $self->{port}, $self->{dir} ]);
	Millgate::Test::wait_for_port($self->{port});
	# The probe's connection.
	Millgate::Test::wait_for('sink', sub { $self->connections });
	unlink "$self->{dir}/connections";
}

sub stop {
	my ($self) = @_;
	Millgate::Test::stop_process($self->{pid}, 'TERM', 5);
}

sub replies {
	my ($self, %replies) = @_;
	my $path = "$self->{dir}/replies";

	Millgate::Test::write_file("$path.new",
	    join '', map { "$_ $replies{$_}\n" } sort keys %replies);
	rename "$path.new", $path;
}

sub messages {
	my ($self) = @_;
	my @files = glob "$self->{dir}/message.*";

	return map { Millgate::Test::read_file($_) } @files;
}

sub commands {
	my ($self) = @_;
	return split /\n/, Millgate::Test::read_file("$self->{dir}/commands");
}

sub connections {
	my ($self) = @_;
	return -s "$self->{dir}/connections" || 0;
}

package Millgate::Peers;

our @postfixes;
sub stop_postfix {
	my ($etc) = @_;

	@postfixes = grep { $_ ne $etc } @postfixes;
	run_command('/usr/sbin/postfix', '-c', $etc, 'stop');
}

my $owner = $$;
END {
	if ($$ == $owner) {
		my $status = $?;
		stop_postfix($_) for @postfixes;
		$? = $status;
	}
}

1;
