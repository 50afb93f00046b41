#!/usr/bin/perl
# Greylisting through the gateway: strangers wait, come back and pass; on both
# back ends of the store; without the store or the policy process mail flows.

use strict;
use warnings;

use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(sleep time);

# The client is 127.0.0.1, which must not be trusted here.
sub configuration {
	my ($more) = @_;
	return <<"END" . ($more // '');
trusted_networks = { "192.0.2.0/24" }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { greylist }
}
greylist { delay = 1s }
END
}

sub attempt {
	my ($server, $to, %options) = @_;
	my $smtp = $server->smtp;
	my $reply = $smtp->deliver(to => $to, %options);

	$smtp->close;
	return $reply;
}

sub comes_back {
	my ($server, $name) = @_;

	like attempt($server, 'bob@example.test'),
	    qr/^451 4\.7\.1 Greylisted, try again in 1 seconds/,
	    "$name: a stranger waits";
	like attempt($server, 'carol@example.test'), qr/^451 4\.7\.1 /,
	    "$name: so does one for another recipient";
	sleep 1.1;
	like attempt($server, 'bob@example.test'), qr/^250 /,
	    "$name: who comes back is let in";
	like attempt($server, 'bob@example.test'), qr/^250 /,
	    "$name: and is known";
	like attempt($server, 'bob@example.test', from => 'x@other.test'),
	    qr/^451 /, "$name: another sender waits";
	like attempt($server, 'dave@example.test', from => ''), qr/^451 /,
	    "$name: so does a bounce";
}

sub count_log {
	my ($server, $pattern) = @_;
	my $count = () = $server->log =~ /$pattern/g;
	return $count;
}

subtest 'SQLite' => sub {
	my $server = start_millgate(text => configuration());

	comes_back($server, 'SQLite');
	like $server->log, qr/policy: client=\S+\[127\.0\.0\.1\], from=<alice\@sender\.test>, to=<bob\@example\.test>, state=RCPT, action=defer/,
	    'the policy process logs what it said';
	ok -f "$server->{dir}/state/policy/store.db", 'the file is there';

	# Several recipients: each hears its own answer.
	my $smtp = $server->smtp;
	$smtp->command('EHLO client.test');
	$smtp->command('MAIL FROM:<alice@sender.test>');
	like $smtp->command('RCPT TO:<bob@example.test>'), qr/^250 /,
	    'a known recipient';
	like $smtp->command('RCPT TO:<eve@example.test>'), qr/^451 /,
	    'a new one in the same message';
	like $smtp->command('RCPT TO:<eve@example.test>'), qr/^451 /,
	    'and once more';
	$smtp->close;

	# What is known outlives a start.
	is $server->stop, 0, 'ends';
	$server->run;
	like attempt($server, 'bob@example.test'), qr/^250 /,
	    'known after a start';

	my (undef, $shown) = $server->ctl(qw(greylist show 127.0.0.1
	    alice@sender.test bob@example.test));
	like $shown, qr/^sender and recipient: passed \d+s ago, known for 36d$/m,
	    'millgatectl shows it';
	(undef, $shown) = $server->ctl(qw(greylist forget 127.0.0.77));
	like $shown, qr/^\d+ forgotten$/m, 'and makes it forgotten';
	like attempt($server, 'bob@example.test'), qr/^451 /,
	    'so that it waits again';
	is $server->stop, 0, 'ends';
};

subtest 'a reload' => sub {
	my $server = start_millgate(text => configuration());
	my $ready = count_log($server, ': ready: ');

	attempt($server, 'bob@example.test');
	my ($old) = $server->children('policy');
	kill 'HUP', $server->{pid};
	wait_for('the old policy process to end', sub { !kill 0, $old });
	sleep 1.1;
	like attempt($server, 'bob@example.test'), qr/^250 /,
	    'the new process knows what the old one learnt';
	like attempt($server, 'new@example.test'), qr/^451 /, 'and learns';
	unlike $server->log, qr/does not answer|no answer/,
	    'nobody missed an answer';
	is $server->stop, 0, 'ends';
};

subtest 'without the policy process' => sub {
	my $server = start_millgate(text => configuration());

	like attempt($server, 'bob@example.test'), qr/^451 /, 'asked';
	my ($policy) = $server->children('policy');
	kill 'STOP', $policy;
	my $begin = time;
	like attempt($server, 'eve@example.test'), qr/^250 /,
	    'mail passes when it hangs';
	ok time - $begin < 5, 'soon';
	kill 'KILL', $policy;
	wait_for('another policy process', sub {
		my ($now) = $server->children('policy');
		return $now && $now != $policy;
	});
	wait_for('greylisting', sub {
		return attempt($server, 'r' . int(rand 1e9) .
		    '@example.test') =~ /^451 /;
	});
	pass 'another one greylists again';
	like $server->log, qr/the policy service does not answer/, 'logged';
	# Each gateway tells for itself, when it asks the next time.
	wait_for('the log', sub {
		attempt($server, 'bob@example.test');
		return $server->log =~ /the policy service answers again/;
	});
	pass 'and logged when it is back';
	is $server->stop, 0, 'ends';
};

subtest 'a damaged store' => sub {
	my $server = start_millgate(text => configuration(),
	    only_configure => 1);

	mkdir "$server->{dir}/state";
	mkdir "$server->{dir}/state/policy";
	write_file("$server->{dir}/state/policy/store.db",
	    'no database ' x 1000);
	chown 65534, 65534, map { "$server->{dir}/state$_" } '', '/policy',
	    '/policy/store.db' if $> == 0;
	$server->run;
	like attempt($server, 'bob@example.test'), qr/^250 /, 'mail passes';
	like attempt($server, 'eve@example.test'), qr/^250 /, 'and more';
	is count_log($server, qr/store=sqlite: no answer/), 1, 'logged once';
	is $server->stop, 0, 'ends';
};

subtest 'Redis' => sub {
	my $redis = start_redis();
	my $server = start_millgate(text => configuration(<<"END"));
store { type = redis server = { "127.0.0.1:$redis->{port}" } budget = 1s }
END
	comes_back($server, 'Redis');
	my (undef, $keys) = run_command('redis-cli', '-p',
	    $redis->{port}, 'keys', '*');
	like $keys, qr/^millgate:grey:\{127\.0\.0\.0\/24\}:/m,
	    'keys are in one slot of a cluster';
	unlike $keys, qr/bob|alice/, 'and name nobody';
	for my $key (grep { /grey/ } split /\n/, $keys) {
		redis_cli($redis->{port}, 'del', $key);
		redis_cli($redis->{port}, 'hset', $key, qw(x 1));
	}
	like attempt($server, 'bob@example.test'), qr/^451 /,
	    'what is no record there counts as none';

	stop_process($redis->{pid}, 'KILL');
	my $begin = time;
	like attempt($server, "r$_\@example.test"), qr/^250 /,
	    'mail flows without Redis' for 1 .. 5;
	ok time - $begin < 5, 'without delay';
	$server->wait_log(qr/store=redis: no answer/);
	is count_log($server, qr/store=redis: no answer/), 1,
	    'the log says so once';

	start_redis(port => $redis->{port});
	$server->wait_log(qr/store=redis: answers again/, 10);
	is count_log($server, qr/store=redis: answers again/), 1,
	    'and once that it is back';
	like attempt($server, 'bob@example.test'), qr/^451 /,
	    'it greylists again, and has forgotten';
	sleep 1.1;
	like attempt($server, 'bob@example.test'), qr/^250 /, 'pass';
	is $server->stop, 0, 'ends';
};

subtest 'Redis hangs' => sub {
	my $redis = start_redis();
	my $server = start_millgate(text => configuration(<<"END"));
store { type = redis server = { "127.0.0.1:$redis->{port}" } }
END
	wait_for('greylisting', sub {
		return attempt($server, 'r' . int(rand 1e9) .
		    '@example.test') =~ /^451 /;
	});
	kill 'STOP', $redis->{pid};
	my $begin = time;
	like attempt($server, "s$_\@example.test"), qr/^250 /,
	    'mail flows' for 1 .. 10;
	ok time - $begin < 5, 'without delay';
	kill 'CONT', $redis->{pid};
	wait_for('greylisting again', sub {
		return attempt($server, 'r' . int(rand 1e9) .
		    '@example.test') =~ /^451 /;
	});
	pass 'works again';
	is $server->stop, 0, 'ends';
};

subtest 'Redis refuses writes' => sub {
	my $redis = start_redis();
	my $server = start_millgate(text => configuration(<<"END"));
store { type = redis server = { "127.0.0.1:$redis->{port}" } budget = 1s }
END
	like attempt($server, 'a@example.test'), qr/^451 /, 'works';
	run_command('redis-cli', '-p', $redis->{port}, 'replicaof',
	    '127.0.0.1', '1');
	like attempt($server, "t$_\@example.test"), qr/^250 /,
	    'mail flows past a replica' for 1 .. 5;
	run_command('redis-cli', '-p', $redis->{port}, 'replicaof',
	    'no', 'one');
	wait_for('greylisting again', sub {
		return attempt($server, 'r' . int(rand 1e9) .
		    '@example.test') =~ /^451 /;
	});
	like $server->log, qr/store=redis: no answer.*READONLY/,
	    'the log says why';
	is count_log($server, qr/store=redis: answers again/), 1,
	    'one line when it is back';

	# Full: no new keys, and nothing is evicted.
	run_command('redis-cli', '-p', $redis->{port}, 'config',
	    'set', 'maxmemory', '1');
	like attempt($server, "u$_\@example.test"), qr/^250 /,
	    'mail flows past a full one' for 1 .. 5;
	run_command('redis-cli', '-p', $redis->{port}, 'config',
	    'set', 'maxmemory', '0');
	wait_for('greylisting again', sub {
		return attempt($server, 'r' . int(rand 1e9) .
		    '@example.test') =~ /^451 /;
	});
	like $server->log, qr/store=redis: no answer.*OOM/,
	    'the log says why';
	is count_log($server, qr/store=redis: no answer/), 2,
	    'once for each outage';
	is $server->stop, 0, 'ends';
};

done_testing;
