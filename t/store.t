#!/usr/bin/perl
# The store in trouble: Sentinels and a Cluster that fail over or move what they
# have, servers that hang, files that are locked, damaged or without room.  No
# answer is waited for, no mail is lost for it, no limit counts twice.

use strict;
use warnings;

use IO::Handle;
use IO::Socket::INET;
use Millgate::Peers;
use Millgate::Test;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $LIMIT = 150;			# of a day: no unit comes back meanwhile
my ($policy, $metrics) = map { free_port() } 1 .. 2;

# A gateway that limits by recipient, a policy service that does by sender.
sub start {
	my ($store, %options) = @_;

	return start_millgate(%options, text => <<"END");
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { incoming }
}
policy { listen = { "127.0.0.1:$policy" } services = { outgoing } }
console { metrics = { "127.0.0.1:$metrics" } }
rate_limit incoming { key = { recipient } rate = "2/1d" }
rate_limit outgoing { key = { sender } rate = "$LIMIT/1d" }
store { $store }
END
}

my $instance = 0;
my $service;

# A request of the policy protocol: the action, and the seconds that it took.
sub ask {
	my ($sender) = @_;
	my $begin = time;
	my $text = '';

	$service //= IO::Socket::INET->new(PeerAddr => '127.0.0.1',
	    PeerPort => $policy, Proto => 'tcp') or die "connect: $!";
	$service->autoflush(1);
	$instance++;
	print $service "request=smtpd_access_policy\nprotocol_state=RCPT\n" .
	    "protocol_name=ESMTP\nclient_address=198.51.100.7\n" .
	    "client_name=unknown\nsender=$sender\n" .
	    "recipient=b\@example.test\ninstance=$$.$instance\n\n";
	while ($text !~ /\n\n/) {
		last unless sysread $service, $text, 4096, length $text;
	}
	my ($action) = $text =~ /\Aaction=(\w+)/;
	return ($action // 'none', time - $begin);
}

# Asks without pause, from a process of its own, until that is told to end:
# (how often it heard what, and how long an answer took at most).
sub start_load {
	my ($sender) = @_;
	pipe my $end, my $stop or die "pipe: $!";
	pipe my $result, my $report or die "pipe: $!";
	my $pid = fork // die "fork: $!";

	if ($pid == 0) {
		my (%heard, $ready);
		my $longest = 0;

		undef $service;
		close $stop;
		do {
			my ($action, $seconds) = ask($sender);
			$heard{$action}++;
			$longest = $seconds if $seconds > $longest;
			vec($ready = '', fileno $end, 1) = 1;
		} until select($ready, undef, undef, 0.005);
		print $report join ' ', $longest, %heard;
		close $report;
		POSIX::_exit(0);
	}
	close $report;
	return sub {
		close $stop;
		my ($longest, %heard) = split ' ', <$result> // '';
		waitpid $pid, 0;
		return (\%heard, $longest);
	};
}

sub delivered {
	my ($server, $to, $name) = @_;
	my $smtp = $server->smtp;

	like $smtp->deliver(to => "$to\@example.test"), qr/^250 /, $name;
	$smtp->close;
}

sub used {
	my ($server, @key) = @_;
	my ($status, $output) = $server->ctl(qw(limit show), @key);

	return $output =~ /used=(\d+)/ ? $1 : $output =~ /\S/ ? $output : 0;
}

sub lines {
	my ($server, $pattern) = @_;
	my $count = () = $server->log =~ /$pattern/g;

	return $count;
}

sub store_up {
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
	    PeerPort => $metrics) or die "connect: $!";
	local $/;
	print $socket "GET /metrics HTTP/1.0\r\n\r\n";
	return <$socket> =~ /^millgate_store_up (\d)/m ? $1 : undef;
}

# One outage so far, told once each way.
sub told_once {
	my ($server, $back_end) = @_;

	$server->wait_log(qr/store=$back_end: answers again/, 30);
	is lines($server, qr/store=$back_end: no answer/), 1,
	    'the log says once that it is away';
	is lines($server, qr/store=$back_end: answers again/), 1,
	    'and once that it is back';
	wait_for('the gauge', sub { store_up() });
	pass 'and so does the gauge';
}

sub finish {
	my ($server) = @_;

	undef $service;
	is $server->stop, 0, 'ends';
	ok sanitizers_silent($server->log), 'cleanly';
}

subtest 'configurations that cannot be' => sub {
	my %wrong = ('sentinel = main cluster = yes' =>
		'sentinel: a Cluster needs none',
	    'cluster = yes server = { "unix:/x" }' =>
		'server: a Cluster has no UNIX sockets',
	    'tls_name = x' => 'tls_name: needs tls_ca',
	    'tls_ca = "@DIR@/millgate.conf"' => 'tls_ca: no certificate');

	for my $options (sort keys %wrong) {
		my $server = start_millgate(only_configure => 1,
		    text => "store { type = redis $options }\n");
		my ($status, $output) = run_command($server->command('-n'));

		is $status, 78, "$options: an error";
		like $output, qr/millgate\.conf:\d+: \Q$wrong{$options}\E/,
		    'is explained';
	}
};

subtest 'TLS, an access list without Functions' => sub {
	my $dir = test_dir();
	my $port = free_port();

	run_command('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
	    'ec_paramgen_curve:P-256', '-nodes', '-keyout', "$dir/key",
	    '-out', "$dir/cert", '-subj', '/CN=redis', '-days', 1, '-addext',
	    'subjectAltName=IP:127.0.0.1');
	chmod 0644, "$dir/key";
	write_file("$dir/password", "secret\n", 0644);
	my @redis = (port => free_port(), arguments => [ '--tls-port', $port,
	    '--tls-cert-file', "$dir/cert", '--tls-key-file', "$dir/key",
	    '--tls-ca-cert-file', "$dir/cert", '--user', qw(default on nopass
	    +@all -@write), '--user', qw(millgate on >secret ~millgate:* +@all
	    -@admin -@dangerous -function -fcall) ]);
	my $redis = start_redis(@redis);
	my $server = start(<<"END");
type = redis
server = { "127.0.0.1:$port" }
user = millgate
password = "$dir/password"
tls_ca = "$dir/cert"
tls_cert = "$dir/cert"
tls_key = "$dir/key"
budget = 2s
END
	wait_for('an answer', sub { used($server, qw(outgoing x)) eq 0 });
	ask('tls@sender.test') for 1 .. 3;
	is used($server, qw(outgoing tls@sender.test)), 3, 'counts';
	is redis_cli($redis->{port}, qw(script flush)), "OK\n",
	    'it forgets scripts';
	ask('tls@sender.test');
	is used($server, qw(outgoing tls@sender.test)), 4, 'counts on';
	stop_process($redis->{pid}, 'KILL');
	$server->wait_log(qr/store=redis: no answer/);
	start_redis(@redis);
	$server->wait_log(qr/store=redis: answers again/, 30);
	ask('tls@sender.test');
	is used($server, qw(outgoing tls@sender.test)), 1,
	    'and by the scripts of one that has begun anew';
	like redis_cli($redis->{port}, qw(info commandstats)),
	    qr/cmdstat_evalsha:calls=/, 'by scripts';
	is lines($server, qr/store=redis: without functions, by EVALSHA: NOPERM/),
	    1, 'says so once';
	finish($server);
};

# WAIT would ask for what the same connection wrote.
sub is_copied {
	my ($master, $replica) = @_;
	my ($there, $here) = map { redis_cli($_->{port}, qw(info replication)) }
	    $master, $replica;
	my ($written) = $there =~ /^master_repl_offset:(\d+)/m;

	return $here =~ /^master_link_status:up/m &&
	    $here =~ /^slave_repl_offset:$written\b/m;
}

subtest 'Sentinel' => sub {
	my $first = start_redis();
	my $second = start_redis(arguments => [ '--replicaof', '127.0.0.1',
	    $first->{port} ]);
	my $sentinel = start_sentinel($first->{port});
	my $server = start(<<"END");
type = redis
server = { "127.0.0.1:@{[ free_port() ]}", "127.0.0.1:$sentinel->{port}" }
sentinel = main
budget = 500ms
END
	wait_for('an answer', sub { used($server, qw(outgoing x)) eq 0 });
	wait_for('Sentinel to know the replica', sub { redis_cli(
	    $sentinel->{port}, qw(sentinel replicas main)) =~ /slave/ });
	ask('known@sender.test') for 1 .. 5;
	wait_for('the copy', sub { is_copied($first, $second) });

	# It hangs, is replaced, and later thinks that it is the master.
	my $load = start_load('load@sender.test');
	kill 'STOP', $first->{pid};
	$server->wait_log(qr/store=redis: no answer/);
	is store_up(), 0, 'the gauge says so';
	delivered($server, "during$_", 'mail flows') for 1 .. 2;
	$server->wait_log(qr/store=redis: answers again/, 30);
	kill 'CONT', $first->{pid};
	my ($heard, $longest) = $load->();
	cmp_ok $longest, '<', 5, 'no answer takes long';
	is $heard->{none} // 0, 0, 'and none is missing';
	told_once($server, 'redis');
	is used($server, qw(outgoing known@sender.test)), 5,
	    'what was counted is counted';
	cmp_ok used($server, qw(outgoing load@sender.test)), '<=',
	    $heard->{DUNNO}, 'nothing is counted twice';
	wait_for('the old master to be a replica', sub { redis_cli(
	    $first->{port}, 'role') =~ /slave/ }, 40);
	ask('known@sender.test');
	like redis_cli($second->{port}, 'role'), qr/master/, 'the other';
	is used($server, qw(outgoing known@sender.test)), 6, 'counts on';

	# Back by the operator's word: a master at work becomes a replica.
	wait_for('the copy', sub { is_copied($second, $first) }, 30);
	$load = start_load('again@sender.test');
	wait_for('the fail-over', sub { redis_cli($sentinel->{port},
	    qw(sentinel failover main)) =~ /OK/ }, 30);
	wait_for('the second outage', sub {
	    lines($server, qr/store=redis: answers again/) == 2 }, 30);
	($heard, $longest) = $load->();
	cmp_ok $longest, '<', 5, 'no answer takes long';
	is $heard->{none} // 0, 0, 'and none is missing';
	is lines($server, qr/store=redis: no answer/), 2, 'told once';
	like redis_cli($first->{port}, 'role'), qr/master/, 'the first';
	cmp_ok used($server, qw(outgoing again@sender.test)), '<=',
	    $heard->{DUNNO}, 'nothing is counted twice';
	is used($server, qw(outgoing known@sender.test)), 6,
	    'what was counted is counted';
	finish($server);
	stop_process($_->{pid}) for $sentinel, $first, $second;
};

# Moves the slot of that key from one node to another, as redis-cli would.
sub move_slot {
	my ($key, $from, $to, @others) = @_;	# who is to know
	my ($slot) = redis_cli($from->{port}, qw(cluster keyslot), $key) =~
	    /(\d+)/;

	redis_cli($to->{port}, qw(cluster setslot), $slot, 'importing',
	    $from->{id});
	redis_cli($from->{port}, qw(cluster setslot), $slot, 'migrating',
	    $to->{id});
	while (my @keys = split /\n/, redis_cli($from->{port},
	    qw(cluster getkeysinslot), $slot, 20)) {
		redis_cli($from->{port}, qw(migrate 127.0.0.1), $to->{port},
		    '', 0, 5000, 'keys', @keys);
	}
	redis_cli($_->{port}, qw(cluster setslot), $slot, 'node', $to->{id})
	    for $to, $from, @others;
}

subtest 'Cluster' => sub {
	my @nodes = start_redis_cluster(3, 1);
	my $server = start(<<"END");
type = redis
cluster = yes
server = { "127.0.0.1:$nodes[1]{port}" }
budget = 10s
END
	wait_for('an answer', sub { used($server, qw(outgoing x)) eq 0 });
	for my $i (1 .. 10) {
		ask("s$i\@sender.test") for 1 .. $i % 3 + 1;
	}
	is used($server, 'outgoing', "s$_\@sender.test"), $_ % 3 + 1,
	    "the count of sender $_" for 1 .. 3;
	my ($status, $output) = $server->ctl(qw(limit show outgoing));
	my $shown = () = $output =~ /^.*s\d+\@sender\.test/mg;
	is $shown, 10, 'what all nodes have is listed';

	# The slot of what is being counted goes around.
	my $load = start_load('moved@sender.test');
	wait_for('the load', sub {
	    used($server, qw(outgoing moved@sender.test)) > 5 });
	my ($owner, $key);
	for my $node (@nodes[0 .. 2]) {
		for (split /\n/, redis_cli($node->{port}, '--scan',
		    '--pattern', 'millgate:limit:{*')) {
			($owner, $key) = ($node, $_) if redis_cli(
			    $node->{port}, 'get', $_) =~ /moved\@/;
		}
	}
	ok defined $key, 'the key is found';
	my ($next) = grep { $_ != $owner } @nodes[1, 2];
	move_slot($key, $owner, $next, @nodes[0 .. 2]);
	move_slot($key, $next, @nodes[0 .. 2]);
	wait_for('the limit', sub {
	    used($server, qw(outgoing moved@sender.test)) >= $LIMIT }, 30);
	my ($heard, $longest) = $load->();
	is $heard->{DUNNO}, $LIMIT, 'the limit holds while its slot moves';
	cmp_ok $heard->{450} // 0, '>', 0, 'beyond it none';
	is lines($server, qr/store=redis: no answer/), 0, 'nobody is away';

	# The master that has it dies, its replica takes over.
	$load = start_load('dies@sender.test');
	redis_cli($nodes[0]{port}, qw(wait 1 2000));
	stop_process($nodes[0]{pid}, 'KILL');
	$server->wait_log(qr/store=redis: no answer/, 30);
	delivered($server, "during$_", 'mail flows') for 1 .. 2;
	wait_for('an answer', sub {
		ask("w$_\@sender.test") for 1 .. 20;
		return $server->log =~ /store=redis: answers again/;
	}, 30);
	($heard, $longest) = $load->();
	cmp_ok $longest, '<', 5, 'no answer takes long';
	is $heard->{none} // 0, 0, 'and none is missing';
	told_once($server, 'redis');
	is used($server, qw(outgoing moved@sender.test)), $LIMIT,
	    'what was counted is counted';
	is +(ask('moved@sender.test'))[0], '450', 'and holds';
	finish($server);

	# One hangs.
	$server = start(<<"END");
type = redis
cluster = yes
server = { "127.0.0.1:$nodes[2]{port}" }
budget = 1s
END
	wait_for('an answer', sub { used($server, qw(outgoing x)) eq 0 });
	kill 'STOP', $nodes[1]{pid};
	my @answers = map { [ ask("h$_\@sender.test") ] } 1 .. 20;
	is +(grep { $_->[0] eq 'DUNNO' } @answers), 20, 'all are answered';
	cmp_ok +(sort { $b <=> $a } map { $_->[1] } @answers)[0], '<', 3,
	    'nobody waits longer than the budget';
	delivered($server, "hangs$_", 'mail flows') for 1 .. 2;
	kill 'CONT', $nodes[1]{pid};
	wait_for('an answer', sub {
		ask("i$_\@sender.test") for 1 .. 20;
		return $server->log =~ /store=redis: answers again/;
	}, 30);
	told_once($server, 'redis');
	finish($server);
	stop_process($_->{pid}) for @nodes;
};

subtest 'SQLite: a locked file' => sub {
	my $server = start('budget = 50ms');
	my $file = "$server->{dir}/state/policy/store.db";

	ask('a@sender.test') for 1 .. 3;
	my $pid = open my $other, '|-', 'sqlite3', '-bail', $file
	    or die "sqlite3: $!";
	$other->autoflush(1);
	print $other ".timeout 10000\nBEGIN IMMEDIATE;\n";
	my $load = start_load('load@sender.test');
	$server->wait_log(qr/store=sqlite: no answer.*database is locked/);
	is store_up(), 0, 'the gauge says so';
	delivered($server, "during$_", 'mail flows') for 1 .. 2;
	print $other "ROLLBACK;\n.quit\n";
	close $other;
	$server->wait_log(qr/store=sqlite: answers again/, 30);
	my ($heard, $longest) = $load->();
	cmp_ok $longest, '<', 5, 'no answer takes long';
	told_once($server, 'sqlite');
	ask('a@sender.test');
	is used($server, qw(outgoing a@sender.test)), 4, 'counts on';
	finish($server);
};

subtest 'SQLite: a file that is damaged at work' => sub {
	my $server = start('');
	my $file = "$server->{dir}/state/policy/store.db";

	ask("a$_\@sender.test") for 1 .. 300;
	wait_for('the commit', sub { (run_command('sqlite3', $file,
	    'SELECT count(*) FROM record'))[1] >= 300 });
	# What is in the log goes into the file, and that is overwritten.
	run_command('sqlite3', $file, 'PRAGMA wal_checkpoint(TRUNCATE)');
	open my $pages, '+<', $file or die "$file: $!";
	my $size = -s $pages;
	seek $pages, 4096, 0;
	print $pages "\xee" x ($size - 4096);
	close $pages;
	kill 'KILL', $server->children('policy');
	wait_for('the damage to be seen', sub {
		undef $service;
		eval { ask('b@sender.test') };
		return $server->log =~ /store=sqlite: no answer.*malformed/;
	});
	delivered($server, "during$_", 'mail flows') for 1 .. 3;
	is lines($server, qr/store=sqlite: no answer/), 1, 'logged once';
	# The operator takes it away.
	unlink $file, "$file-wal", "$file-shm";
	wait_for('an answer', sub {
		undef $service;
		ask('b@sender.test');
		return $server->log =~ /store=sqlite: answers again/;
	}, 30);
	pass 'a new one is begun';
	finish($server);
};

subtest 'SQLite: no room' => sub {
	needs_root('a file system of its own');
	my $server = start('budget = 200ms', only_configure => 1);
	my $dir = "$server->{dir}/state/policy";

	mkdir "$server->{dir}/state";
	mkdir $dir;
	my ($status, $output) = run_command('mount', '-t', 'tmpfs', '-o',
	    'size=512k,mode=0700,uid=65534,gid=65534', 'none', $dir);
	is $status, 0, 'mounted' or diag $output;
	chown 65534, 65534, "$server->{dir}/state";
	$server->run;
	ask('a@sender.test') for 1 .. 3;
	run_command('dd', 'if=/dev/zero', "of=$dir/filler", 'bs=4k');
	my $longest = 0;
	for my $i (1 .. 2000) {
		my ($action, $seconds) = ask("f$i\@sender.test");
		$longest = $seconds if $seconds > $longest;
		last if $server->log =~ /store=sqlite: no answer/;
	}
	is lines($server, qr/store=sqlite: no answer.*full/), 1, 'it is full';
	cmp_ok $longest, '<', 5, 'no answer takes long';
	delivered($server, "during$_", 'mail flows') for 1 .. 3;
	unlink "$dir/filler";
	wait_for('an answer', sub {
		ask('b@sender.test');
		return $server->log =~ /store=sqlite: answers again/;
	}, 30);
	told_once($server, 'sqlite');
	cmp_ok used($server, qw(outgoing a@sender.test)), '<=', 3,
	    'nothing is counted twice';
	finish($server);
	run_command('umount', $dir);
};

done_testing;
