#!/usr/bin/perl
# The policy service for other MTAs: a real Postfix, many idle connections,
# clients that are malformed, slow or gone.

use strict;
use warnings;

use IO::Socket::INET;
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(sleep time);

my $port = free_port();

sub start_service {
	my ($more) = @_;
	return start_millgate(text => <<"END" . ($more // ''));
policy { listen = { "127.0.0.1:$port" } max_clients = 1500 }
greylist { delay = 2s }
END
}

sub connect_service {
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
	    PeerPort => $port, Proto => 'tcp') or die "connect: $!";
	$socket->autoflush(1);
	return $socket;
}

# What comes until an empty line, or '' if the other end closes.
sub answer {
	my ($socket, $seconds) = @_;
	my $text = '';
	my $end = time + ($seconds // 20);

	until ($text =~ /\n\n/) {
		my $ready = '';
		vec($ready, fileno $socket, 1) = 1;
		my $left = $end - time;
		return "timed out: $text" if $left <= 0 ||
		    !select $ready, undef, undef, $left;
		my $n = sysread $socket, $text, 4096, length $text;
		return $text unless $n;
	}
	return $text;
}

sub ask {
	my ($socket, %more) = @_;
	print $socket policy_request(%more);
	return answer($socket);
}

my $deferred = qr/\Aaction=DEFER_IF_PERMIT 4\.7\.1 Greylisted, try again in \d+ seconds\n\n\z/;
my $dunno = "action=DUNNO\n\n";
my $server = start_service();

subtest 'conversations' => sub {
	my $socket = connect_service();

	like ask($socket), $deferred, 'a stranger';
	like ask($socket), $deferred, 'the same connection again';
	is ask($socket, protocol_state => 'DATA'), $dunno,
	    'only recipients are greylisted';
	is ask($socket, protocol_state => 'END-OF-MESSAGE', size => 5),
	    $dunno, 'nor the end of a message';
	is ask($socket, client_address => 'unknown'), $dunno,
	    'without an address nothing can be told';
	like ask($socket, sasl_username => 'joe'), $deferred, 'a user';
	print $socket policy_request(recipient => 'x@example.test'),
	    policy_request(protocol_state => 'MAIL');
	my $both = answer($socket);
	$both .= answer($socket) if (() = $both =~ /\n\n/g) < 2;
	like $both, qr/\Aaction=DEFER_IF_PERMIT .*\n\naction=DUNNO\n\n\z/,
	    'pipelined';
	sleep 2.1;
	is ask($socket), $dunno, 'who comes back passes';
	is ask($socket, client_address => '198.51.100.99'), $dunno,
	    'from the same network';
	is ask($socket, sasl_username => 'joe',
	    client_address => '203.0.113.9'), $dunno,
	    'or as the same user from elsewhere';
	is ask($socket, instance => 'fixed'), $dunno, 'an instance';
	is ask($socket, instance => 'fixed'), $dunno, 'and once more';
	close $socket;
};

subtest 'clients that misbehave' => sub {
	my %bad = ('garbage' => "\x16\x03\x01\x02\x00\x01\n",
	    'HTTP' => "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	    'another request' => "request=junk\n\n",
	    'an empty request' => "\n",
	    'a NUL' => "request=smtpd_access_policy\nsender=a\0b\n\n",
	    'an attribute twice' =>
		"request=smtpd_access_policy\nsender=a\nsender=b\n\n",
	    'a line without end' => 'x' x 70000,
	    'too many bytes' => join('', ("junk=" . 'x' x 10000 . "\n") x 10),
	    'too many attributes' => join('', ("junk=x\n") x 200));
	my $good = connect_service();
	my @half = map { connect_service() } 1 .. 20;
	print $_ substr policy_request(), 0, 40 for @half;

	for my $name (sort keys %bad) {
		my $socket = connect_service();
		local $SIG{PIPE} = 'IGNORE';
		print $socket $bad{$name};
		is answer($socket), '', "$name: closed without an answer";
		like ask($good, recipient => "$name\@example.test"),
		    $deferred, "$name: others are served";
	}
	print { $half[0] } substr policy_request(), 40;
	close $_ for @half;
	like ask($good, recipient => 'last@example.test'), $deferred,
	    'half requests disturb nobody';
};

subtest 'what requests bring into the log' => sub {
	my %wild = ('escapes' => "\e[2J\e[31m\@x.test",
	    'formats' => '%n%s%08x@x.test', 'not UTF-8' => "\xff\xfe\@x.test",
	    'reordered' => "\xe2\x80\xae\@x.test",
	    'a line separator' => "\xe2\x80\xa8\@x.test",
	    'a carriage return' => "a\rpolicy: action=pass\@x.test",
	    'a field' => 'a>, action=pass, by=<x@x.test',
	    'long' => 'l' x 10000 . '@x.test');
	my $socket = connect_service();

	for my $name (sort keys %wild) {
		like ask($socket, client_address => '203.0.113.77',
		    map { $_ => $wild{$name} } qw(sender recipient helo_name
		    client_name sasl_username)), qr/\Aaction=/,
		    "$name: answered";
	}
	ask($socket, recipient => 'done@example.test');
	$server->wait_log(qr/to=<done\@example\.test>/);
	is join("\n", $server->wild_lines), '', 'is printable';
	my @lines = grep { /203\.0\.113\.77/ } split /\n/, $server->log;
	is scalar(@lines), scalar(keys %wild), 'a line each';
	is scalar(grep { length > 4096 } @lines), 0, 'is cut';
	is scalar(grep { !/, state=RCPT, action=defer[, ]/ } @lines), 0,
	    'tells the outcome';
};

subtest 'a thousand idle connections' => sub {
	my @idle = map { connect_service() } 1 .. 1000;
	my $begin = time;
	my $count = 0;

	for my $socket (@idle) {
		$count++ if ask($socket, recipient => "i$count\@example.test")
		    =~ $deferred;
	}
	is $count, 1000, 'each gets its answer';
	my $seconds = time - $begin;
	note sprintf '%.0f answers a second, one after the other',
	    1000 / $seconds;
	my ($pid) = $server->children('policy');
	my ($kib) = read_file("/proc/$pid/status") =~ /VmRSS:\s+(\d+)/;
	note "resident: $kib KiB";
	my $fresh = connect_service();
	like ask($fresh, recipient => 'f@example.test'), $deferred,
	    'and so does one more';

	# Beyond max_clients the longest idle makes room.
	my @more = map { connect_service() } 1 .. 600;
	like ask($more[-1], recipient => 'm@example.test'), $deferred,
	    'beyond max_clients the newest is served';
	is answer($idle[0], 5), '', 'and the oldest was closed';
	$server->logs(qr/max_clients/, 'the log says so');
};

subtest 'Postfix' => sub {
	my $postfix = start_postfix_asking($port);
	my $try = sub { $postfix->{try}->('127.0.0.1') };

	like $try->(), qr/^45\d 4\.7\.1 .*Greylisted, try again in/s,
	    'Postfix defers a stranger';
	sleep 2.1;
	like $try->(), qr/^250 /, 'and later takes its mail';
	$server->logs(qr/policy: client=\S+\[127\.0\.0\.1\], from=<alice\@sender\.test>, to=<bob\@example\.test>, state=RCPT, action=defer/,
	    'logged');
	my $log = read_file($postfix->{log});
	unlike $log, qr/policy.*(?:warning|problem|timeout)/i,
	    'Postfix has no complaint';

	# A reload closes idle connections; Postfix connects again.
	my ($old) = $server->children('policy');
	kill 'HUP', $server->{pid};
	wait_for('the old policy process to end', sub { !kill 0, $old });
	like $try->(), qr/^250 /, 'known after a reload';
	$postfix->{stop}->();
};

is $server->stop, 0, 'ends';
done_testing;
