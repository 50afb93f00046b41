#!/usr/bin/perl
# Rate limits and concurrency limits: for a Postfix, for our own gateways, over a
# fleet; what is refused is given back, and millgatectl shows and frees what is
# counted.

use strict;
use warnings;

use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $limited = qr/^450 4\.7\.1 Rate limit exceeded, try again in \d+ seconds/;

# Says MAIL and RCPT for each; returns the session and the last reply.
sub begin {
	my ($server, @recipients) = @_;
	my $smtp = $server->smtp;
	my $reply = $smtp->command('EHLO client.test');

	$reply = $smtp->command($_) for 'MAIL FROM:<alice@sender.test>',
	    map { "RCPT TO:<$_\@example.test>" } @recipients;
	return ($smtp, $reply);
}

sub used {
	my ($server, @key) = @_;
	my ($status, $output) = $server->ctl(qw(limit show), @key);

	return $output =~ /used=(\d+) reserved=(\d+)/ ? "$1/$2" : '0/0';
}

subtest 'our own gateway' => sub {
	my $server = start_millgate(text => <<"END");
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { incoming }
}
rate_limit incoming {
	key = { client }
	count = recipients
	rate = "3/1h"
}
END
	my @key = ('incoming', '127.0.0.1');
	my ($smtp, $reply) = begin($server, qw(a b));

	like $reply, qr/^250 /, 'two recipients';
	is used($server, @key), '2/2', 'are reserved';
	like $smtp->command('RSET'), qr/^250 /, 'none of them gets mail';
	wait_for('what was reserved', sub { used($server, @key) eq '0/0' });
	pass 'so they are given back';

	($smtp, $reply) = begin($server, qw(a b c d));
	like $reply, $limited, 'the fourth recipient is too many';
	my ($seconds) = $reply =~ /in (\d+) seconds/;
	ok $seconds > 1190 && $seconds <= 1200, 'in a third of an hour not';
	like $smtp->command('DATA'), qr/^354 /, 'three get it';
	like $smtp->command(message() . '.'), qr/^250 /, 'and it is accepted';
	wait_for('the charge', sub { used($server, @key) eq '3/0' });
	pass 'and charged';
	$smtp->close;
	$server->wait_log(qr/policy: client=\S+, from=<alice\@sender\.test>, to=<d\@example\.test>, state=RCPT, action=defer, by=incoming, reason=rate-limit \(127\.0\.0\.1: used=3 limit=3\)/);

	# Who loses the connection has sent nothing.
	my ($status, $output) = $server->ctl(qw(limit reset), @key);
	is $status, 0, 'reset';
	($smtp, $reply) = begin($server, qw(a b c));
	like $reply, qr/^250 /, 'there is room again';
	is used($server, @key), '3/3', 'reserved';
	$smtp->close;
	wait_for('what was reserved', sub { used($server, @key) eq '0/0' });
	pass 'given back when the client is gone';

	($status, $output) = $server->ctl(qw(limit show other));
	like $output, qr/no limit of that name/, 'an unknown name';
	isnt $status, 0, 'is an error';
	($status, $output) = $server->ctl(qw(limit reset incoming));
	like $output, qr/reset NAME KEY/, 'usage';
	is $server->stop, 0, 'ends';
};

subtest 'the next hop has the last word' => sub {
	my $sink = start_sink(replies => { END => '550 5.7.1 not here' });
	my $server = start_millgate(text => <<"END");
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	cut_through = yes
	filters = { incoming }
}
route "*" { via = { "smtp:127.0.0.1:$sink->{port}" } }
rate_limit incoming {
	key = { client }
	rate = "3/1h"
}
END
	my @key = ('incoming', '127.0.0.1');
	my $smtp = $server->smtp;

	for (1 .. 4) {
		like $smtp->deliver(to => 'bob@example.test'),
		    qr/^550 5\.7\.1 .*not here/, 'refused';
		wait_for('what was reserved',
		    sub { used($server, @key) eq '0/0' });
	}
	pass 'what is refused is given back';
	$sink->replies;
	like $smtp->deliver(to => 'bob@example.test'), qr/^250 /, 'accepted';
	wait_for('the charge', sub { used($server, @key) eq '1/0' });
	pass 'and charged';
	$smtp->close;
	is $server->stop, 0, 'ends';
	$sink->stop;
};

subtest 'connections at a time' => sub {
	my $server = start_millgate(text => <<"END");
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { crowd }
}
concurrency_limit crowd {
	key = { client }
	maximum = 3
}
END
	my $held = sub {
		my (undef, $output) = $server->ctl(qw(concurrency show crowd));
		return $output =~ /^127\.0\.0\.1 used=(\d+)/m ? $1 : 0;
	};
	my @sessions = map { $server->smtp } 1 .. 3;

	like $_->deliver(to => 'bob@example.test'), qr/^250 /, 'a session'
	    for @sessions;
	is $held->(), 3, 'hold a lease each';
	my $fourth = $server->smtp;
	like $fourth->{greeting}, qr/^421 4\.7\.0 .*Too much at a time/,
	    'one more is turned away';
	$fourth->close;
	is $held->(), 3, 'and its end frees nothing';
	$sessions[0]->command('QUIT');
	$sessions[0]->close;
	$sessions[1]->close;
	wait_for('the leases', sub { $held->() == 1 });
	my $smtp = $server->smtp;
	like $smtp->deliver(to => 'bob@example.test'), qr/^250 /,
	    'who comes after them is welcome';
	$_->close for $smtp, $sessions[2];
	wait_for('the leases', sub { $held->() == 0 });
	$server->wait_log(qr/state=CONNECT, action=defer, by=crowd, reason=concurrency-limit/);
	is $server->stop, 0, 'ends';
};

subtest 'connections of a network' => sub {
	my $server = start_millgate(text => <<"END");
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { crowd }
}
concurrency_limit crowd {
	key = { network }
	maximum = 2
}
END
	my $from = sub { new_smtp(port => $server->{port}, local => $_[0]) };
	my @sessions = map { $from->($_) } qw(127.0.7.1 127.0.7.2);

	like $_->{greeting}, qr/^220 /, 'a session' for @sessions;
	my $third = $from->('127.0.7.3');
	like $third->{greeting}, qr/^421 4\.7\.0 .*Too much at a time/,
	    'one more of the network is turned away';
	my $other = $from->('127.0.8.1');
	like $other->{greeting}, qr/^220 /, 'another network has its own';
	$sessions[0]->close;
	my $next;
	wait_for('room', sub {
		$next = $from->('127.0.7.4');
		return 1 if $next->{greeting} =~ /^220 /;
		$next->close;
		return 0;
	});
	pass 'there is room when one of them has gone';
	$_->close for $sessions[1], $third, $other, $next;
	is $server->stop, 0, 'ends';
};

subtest 'a fleet' => sub {
	my $redis = start_redis();
	my @servers = map { start_millgate(text => <<"END") } 1 .. 2;
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { incoming }
}
store { type = redis server = { "127.0.0.1:$redis->{port}" } budget = 10s }
rate_limit incoming {
	key = { sender_domain }
	rate = "4/1h"
	exceptions = { ".free.test = unlimited" }
}
END
	my %count;

	for my $i (0 .. 9) {
		my $smtp = $servers[$i % 2]->smtp;
		my $reply = $smtp->deliver(to => 'bob@example.test');
		$count{substr $reply, 0, 3}++;
		$smtp->close;
		# An outcome is told without being waited for.
		wait_for('the outcome', sub {
			return used($servers[1], qw(incoming sender.test)) =~
			    m{/0$};
		});
	}
	is $count{250}, 4, 'as many as the limit allows go through both';
	is $count{450}, 6, 'the others are put off';
	my $smtp = $servers[0]->smtp;
	like $smtp->deliver(from => "a$_\@mx.free.test"), qr/^250 /,
	    'an exception' for 1 .. 5;
	$smtp->close;
	my (undef, $keys) = run_command('redis-cli', '-p', $redis->{port},
	    'keys', '*limit*');
	like $keys, qr/^millgate:limit:\{incoming:[0-9a-f]{32}\}$/m,
	    'keys are in one slot of a cluster';

	# Without the store nobody is limited.
	stop_process($redis->{pid}, 'KILL');
	$smtp = $servers[0]->smtp;
	like $smtp->deliver(to => 'bob@example.test'), qr/^250 /,
	    'mail flows without Redis';
	$smtp->close;
	is $_->stop, 0, 'ends' for @servers;
};

subtest 'Postfix' => sub {
	my $port = free_port();
	my $server = start_millgate(text => <<"END");
policy { listen = { "127.0.0.1:$port" } services = { outgoing, one } }
concurrency_limit one { key = { sender } count = messages maximum = 1 }
rate_limit outgoing {
	key = { sender }
	count = recipients
	rate = "4/1h"
	exceptions = { "big\@sender.test = 100/1h" }
}
END
	my $check = "check_policy_service inet:127.0.0.1:$port";
	my $postfix = start_postfix(main => {
	    mydestination => 'example.test', local_recipient_maps => '',
	    local_transport => 'discard',
	    # It asks twice for each recipient, and once more at the end.
	    smtpd_relay_restrictions => "$check, permit_mynetworks, reject",
	    smtpd_recipient_restrictions => $check,
	    smtpd_end_of_data_restrictions => $check });
	my $send = sub {
		my ($from, @to) = @_;
		my $smtp = new_smtp(port => $postfix->{port});
		my $reply = $smtp->deliver(from => $from, to => [ map {
		    "$_\@example.test" } @to ]);
		$smtp->close;
		return $reply;
	};

	like $send->('joe@sender.test', qw(a b c)), qr/^250 /,
	    'three recipients';
	is used($server, qw(outgoing joe@sender.test)), '3/0',
	    'each is counted once';
	like $send->('joe@sender.test', qw(a b)),
	    qr/^450 4\.7\.1 .*Rate limit exceeded, try again in \d+ seconds/,
	    'the fifth is put off';
	is used($server, qw(outgoing joe@sender.test)), '4/0',
	    'the fourth was charged';
	like $send->('ann@sender.test', qw(a b c)), qr/^250 /,
	    'another sender';
	like $send->('big@sender.test', 'a' .. 'j'), qr/^250 /,
	    'an exception';
	my ($status, $output) = $server->ctl(qw(limit show));
	like $output, qr/^outgoing:\n(?=.*^joe\@sender\.test used=4 reserved=0 free_in=\d+$)(?=.*^big\@sender\.test used=10 )/ms,
	    'limit show';
	is $status, 0, 'works';
	# One message at a time, until it is complete.
	my ($first, $second) = map { new_smtp(port => $postfix->{port}) }
	    1 .. 2;
	$_->command('EHLO client.test') for $first, $second;
	$_->command('MAIL FROM:<sue@sender.test>') for $first, $second;
	like $first->command('RCPT TO:<a@example.test>'), qr/^250 /,
	    'a message';
	like $second->command('RCPT TO:<b@example.test>'),
	    qr/^450 4\.7\.1 .*Too much at a time/s, 'one beside it waits';
	$first->command('DATA');
	like $first->command(message() . '.'), qr/^250 /, 'it is complete';
	# Postfix asks anew in another message only.
	$second->command($_) for 'RSET', 'MAIL FROM:<sue@sender.test>';
	like $second->command('RCPT TO:<b@example.test>'), qr/^250 /,
	    'and the other has its turn';
	$_->close for $first, $second;
	unlike read_file($postfix->{log}), qr/policy.*(?:warning|problem)/i,
	    'Postfix has no complaint';
	$postfix->{stop}->();
	is $server->stop, 0, 'ends';
};

subtest 'errors' => sub {
	my $server = start_millgate(only_configure => 1, text => <<'END');
rate_limit a {
	key = { users }
	rate = "many"
	exceptions = { "joe = 5" }
}
END
	my ($status, $output) = run_command("$ENV{MILLGATE_BUILD}/gateway/millgate",
	    '-n', '-c', "$server->{dir}/millgate.conf");

	is $status >> 8 || $status, 78, 'a bad configuration';
	like $output, qr/millgate\.conf:\d+: key: a key is made of/, 'key';
	like $output, qr/millgate\.conf:\d+: rate: is not a rate/, 'rate';
	like $output, qr/millgate\.conf:\d+: exceptions: joe: "5" is not a rate/,
	    'exceptions';
};

done_testing;
