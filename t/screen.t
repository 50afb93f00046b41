#!/usr/bin/perl
# Screening: strangers wait for the greeting, robots speak before it, listed
# clients are refused, offenders are banned, good clients get a pass; a real NSD
# plays the DNS list, a real Postfix asks about the same clients.

use strict;
use warnings;

use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(sleep time);

my $port = free_port();
my $dns = start_dns('zen.test' => [ '2.0.0.127 A 127.0.0.2',
    '66.0.0.127 A 127.0.0.4', '66.0.0.127 TXT "see zen.test"',
    '68.0.0.127 A 127.0.0.4' ],
    'white.test' => [ '2.0.0.127 A 127.0.0.2', '69.0.0.127 A 127.0.0.2' ]);

my $server = start_millgate(text => <<"END");
trusted_networks = { "127.0.7.0/24" }
dns_stubs = { $dns->{stubs} }
dns_timeout = 2s
policy { listen = { "127.0.0.1:$port" } services = { screen } }
dnsbl { sites = { zen.test, "white.test*-3" } pass_threshold = -2 }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	screen = yes
	max_sessions_per_client = 4
	recipients = { "bob\@example.test" }
}
screen {
	greet_wait = 2s
	tarpit = 300ms
	ban_offences = 8
	ban_time = 5m
}
END

# Connects; how long the greeting took, and the client.
sub connect_from {
	my ($address, %more) = @_;
	my $begin = time;
	my $smtp = $server->smtp(local => $address, %more);
	return (time - $begin, $smtp);
}

sub greeting_from {
	my ($seconds, $smtp) = connect_from(@_);
	$smtp->close;
	return $smtp->{greeting};
}

subtest 'a stranger' => sub {
	my ($seconds, $smtp) = connect_from('127.0.0.5');
	cmp_ok $seconds, '>=', 1.9, 'waits for the greeting';
	is $smtp->{greeting}, "220-mx.example.test\r\n" .
	    "220 mx.example.test ESMTP Millgate\r\n", 'which comes in halves';
	like $smtp->deliver, qr/^250 /, 'sends mail';
	like $smtp->command('QUIT'), qr/^221 /, 'and goes';
	wait_for('a pass', sub {
		return (connect_from('127.0.0.5'))[0] < 1.7;
	});
	pass 'then it need not wait';
	($seconds, $smtp) = connect_from('127.0.0.5');
	is $smtp->{greeting}, "220 mx.example.test ESMTP Millgate\r\n",
	    'nor is it teased';
	cmp_ok((connect_from('127.0.7.1'))[0], '<', 1.7,
	    'a trusted client does not wait either');
	cmp_ok((connect_from('127.0.0.69'))[0], '<', 1.7,
	    'nor one on a list of good ones');
};

subtest 'an early talker' => sub {
	for (1, 2) {
		my $smtp = $server->smtp(local => '127.0.0.20',
		    no_greeting => 1);
		$smtp->send("EHLO robot.test\r\n");
		like $smtp->reply, qr/^220-.*\r\n554 5\.5\.1 You talked before my greeting \[early-talker \w+\]/,
		    'is refused';
		$smtp->close;
	}
	$server->wait_log(qr/screen: client=127\.0\.0\.20\/32 banned for 300 s: offences=5 early-talk/);
	wait_for('the ban', sub {
		return greeting_from('127.0.0.20') =~
		    /^421 4\.7\.1 Too many errors from your network, try again later \[banned/;
	});
	pass 'and banned, the second time';
	$server->wait_log(qr/reject: CONNECT from localhost\[127\.0\.0\.20\]: 421 4\.7\.1 .*; proto/);
	my $asked = () = $server->log =~ /127\.0\.0\.20\], state=CONNECT/g;
	greeting_from('127.0.0.20') for 1 .. 10;
	my $again = () = $server->log =~ /127\.0\.0\.20\], state=CONNECT/g;
	cmp_ok $again - $asked, '<=', 3, 'gateways remember that for a moment';
	like greeting_from('127.0.0.21'), qr/^220/, 'its neighbour is free';

	my ($status, $text) = $server->ctl('ban', 'show');
	is $status, 0, 'millgatectl ban show';
	like $text, qr/^127\.0\.0\.20\/32 \d+ s, for the first time: offences=5 early-talk$/m,
	    'shows it';
	is +($server->ctl('ban', 'remove', '127.0.0.20'))[0], 0,
	    'millgatectl ban remove';
	wait_for('an end of the ban', sub {
		return greeting_from('127.0.0.20') =~ /^220/;
	});
	pass 'frees it';
};

subtest 'errors' => sub {
	my ($seconds, $smtp) = connect_from('127.0.0.30');

	$smtp->command('NONSENSE') for 1 .. 8;
	$smtp->command('QUIT');
	$server->wait_log(qr/client=127\.0\.0\.30\/32 banned for 300 s: offences=8/);
	wait_for('the ban', sub {
		return greeting_from('127.0.0.30') =~ /^421 .*\[banned/;
	});
	pass 'so many get a client banned';
};

# A session that tries so many unknown recipients, and others; its replies.
sub try_recipients {
	my ($address, $unknown, $known) = @_;
	my ($seconds, $smtp) = connect_from($address);

	$smtp->command('EHLO client.test');
	$smtp->command('MAIL FROM:<alice@sender.test>');
	my @replies = map { $smtp->command("RCPT TO:<nobody$_\@example.test>") }
	    1 .. $unknown;
	$smtp->command("RCPT TO:<bob+$_\@example.test>") for 1 .. $known;
	if ($known) {
		$smtp->command('DATA');
		like $smtp->command(message() . '.'), qr/^250 /, 'mail';
	}
	$smtp->command('QUIT');
	$smtp->close;
	return @replies;
}

subtest 'recipients that do not exist' => sub {
	for (1 .. 3) {
		my @sessions = map { $server->smtp(local => '127.0.0.31',
		    no_greeting => 1) } 1 .. 4;
		for my $smtp (@sessions) {
			$smtp->reply;
			my $reply = $smtp->deliver(to => 'bop@example.test');
			like $reply, qr/^550 5\.1\.1 /, 'a typing error';
			$smtp->close;
		}
	}
	like greeting_from('127.0.0.31'), qr/^220/, 'is no offence';
	try_recipients('127.0.0.32', 10, 20);
	try_recipients('127.0.0.33', 11, 2);
	$server->wait_log(qr/client=127\.0\.0\.33\/32 banned for 300 s: offences=8/);
	pass 'one that guesses is banned';
	like greeting_from('127.0.0.32'), qr/^220/,
	    'an old list of many is none';
	is scalar(() = $server->log =~ /screen: client=\S+ banned for/g), 3,
	    'and nobody else was';
};

subtest 'a listed client' => sub {
	my ($seconds, $smtp) = connect_from('127.0.0.66');

	like $smtp->{greeting}, qr/^220 /m, 'is greeted';
	my $begin = time;
	like $smtp->command('EHLO listed.test'), qr/^250/, 'may go on';
	cmp_ok time - $begin, '>=', 0.25, 'slowly';
	$smtp->{greeted} = 1;
	like $smtp->deliver, qr/^554 5\.7\.1 Service unavailable; Client host \[127\.0\.0\.66\] blocked using zen\.test; see zen\.test \[dnsbl \w+\]/,
	    'and is refused with its recipient';
	$smtp->close;
	$server->wait_log(qr/reject: RCPT from localhost\[127\.0\.0\.66\]: 554 5\.7\.1 .* to=<bob\@example\.test>/);
	$server->wait_log(qr/policy: client=\S+\[127\.0\.0\.66\], .*state=CONNECT, action=reject, by=screen, reason=dnsbl/);
};

subtest 'an operator bans a network' => sub {
	is +($server->ctl('ban', 'add', '127.0.9.0/24', '1h', 'a', 'botnet'))[0],
	    0, 'millgatectl ban add';
	like greeting_from('127.0.9.77'), qr/^554 5\.7\.1 Your network is not welcome here \[banned/,
	    'each of its clients is refused';
	like [ $server->ctl('ban', 'show') ]->[1],
	    qr/^127\.0\.9\.0\/24 \d+ s, by an operator: a botnet$/m, 'shown';
	my ($status, $text) = $server->ctl('ban', 'add', '127.0.0.0/8');
	is $status, 1, 'a larger network is refused';
	like $text, qr/no address, no IPv4 \/24/, 'and why';
	is +($server->ctl('ban', 'dance'))[0], 64, 'no such command';
};

subtest 'connections' => sub {
	my @open = map { (connect_from('127.0.0.5'))[1] } 1 .. 40;

	like $open[-1]{greeting}, qr/^421 4\.7\.0 Too many connections from you \[connection-limit\]/,
	    'too many of one client are refused';
	$server->logs(qr/reject: CONNECT from unknown\[127\.0\.0\.5\]: 421 4\.7\.0 Too many connections from you \[connection-limit\]/,
	    'logged with its reason');
	$_->close for @open;
};

subtest 'a good client that sometimes offends' => sub {
	my (undef, $smtp) = connect_from('127.0.0.5');

	$smtp->command('NONSENSE') for 1 .. 8;
	$smtp->command('QUIT');
	$smtp->close;
	wait_for('its pass to be lost', sub {
		return (connect_from('127.0.0.5'))[0] >= 1.9;
	});
	like greeting_from('127.0.0.5'), qr/^220/, 'is not banned at once';
	(undef, $smtp) = connect_from('127.0.0.5');
	like $smtp->deliver, qr/^250 /, 'and may earn its pass again';
	$smtp->command('QUIT');
};

subtest 'Postfix' => sub {
	my $postfix = start_postfix_asking($port);

	like $postfix->{try}->('127.0.9.78'), qr/^554 5\.7\.1 .*not welcome here/,
	    'refuses who is banned';
	like $postfix->{try}->('127.0.0.30'), qr/^450 4\.7\.1 .*Too many errors/,
	    'defers who offended us';
	like $postfix->{try}->('127.0.0.68'), qr/^554 5\.7\.1 .*blocked using zen\.test/,
	    'refuses who is listed';
	like $postfix->{try}->('127.0.0.5'), qr/^250 /, 'takes mail of others';
	$postfix->{stop}->();
};

subtest 'the policy process is away' => sub {
	my ($policy) = $server->children('policy');

	kill 'STOP', $policy;
	my ($seconds, $smtp) = connect_from('127.0.0.40');
	like $smtp->deliver, qr/^250 /, 'mail comes in all the same';
	cmp_ok $seconds, '<', 6, 'not much later';
	$smtp->close;
	kill 'CONT', $policy;
	kill 'KILL', $policy;
	wait_for('another one', sub {
		my ($new) = $server->children('policy');
		return defined $new && $new != $policy &&
		    greeting_from('127.0.9.77') =~ /^554/;
	});
	pass 'bans outlive it';
};

is $server->stop, 0, 'ends';
ok sanitizers_silent($server->log), 'sanitizers are silent';

done_testing;
