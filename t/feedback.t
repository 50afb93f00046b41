#!/usr/bin/perl
# What is told of accepted messages later: by the operator, and by other systems
# over HTTP; services that learn hear of it.

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $http = free_port();
my $token = write_file('token', "sesame\n", 0600);
chown 65534, 65534, $token;
my $sink = start_sink();
my $server = start_millgate(text => <<"END");
trusted_networks = { "192.0.2.0/24" }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { reputation, rules }
}
rule bad { when = "header('Subject') == 'bad'"  score = 10 }
scoring { quarantine = 8 }
route "*" { via = { "smtp:127.0.0.1:$sink->{port}" } }
console { feedback = { "127.0.0.1:$http" } feedback_token = "$token" }
END

# An id that was accepted and that the policy process has heard of.
sub accepted_id {
	my ($id) = $server->smtp->deliver =~ /^250 .*\b(1\w{15})\b/;
	my $status;

	wait_for('the outcome', sub {
		($status) = $server->ctl('report', $id, 'released');
		$status == 0;
	});
	return $id;
}

my $id = accepted_id();
# How often that kind of evidence stands against the client.
sub heard {
	my ($kind) = @_;
	my (undef, $why) = $server->ctl('rep', 'why', 'address:127.0.0.1');

	return $why =~ /^heard of:.*(?<![-\w])$kind=(\d+)/m ? $1 : 0;
}

subtest 'what reputation learns' => sub {
	my ($reply) = $server->smtp->deliver(data =>
	    message(Subject => 'bad'));

	like $reply, qr/^250/, 'held';
	wait_for('the rules\' word', sub { heard('spam') == 1 });
	pass 'the rules call it spam';
	$sink->replies(RCPT => '550 5.1.1 nobody');
	$server->smtp->deliver;
	wait_for('the bounce', sub { heard('bounced') == 1 });
	pass 'an address was none';
	$sink->replies;
};

subtest 'millgatectl report' => sub {
	my ($status, $output) = $server->ctl('report', $id, 'spam');

	is $status, 0, 'a report';
	like $output, qr/^$id: spam$/m, '...is confirmed';
	is heard('reported-spam'), 1, '...and learnt';
	$server->ctl('report', $id, 'spam');
	is heard('reported-spam'), 1, 'once';
	($status, $output) = $server->ctl('report', $id, 'spam', 'undo');
	like $output, qr/taken back/, 'and taken back';
	is heard('reported-spam'), 0, '...and forgotten';
	($status, $output) = $server->ctl('report', 'NOSUCHID', 'spam');
	isnt $status, 0, 'of a message that is not known';
	like $output, qr/no message of that id/, '...is refused';
	($status, $output) = $server->ctl('report', $id, 'nice');
	is $status, 64, 'another word';
	like $output, qr/usage: report id spam\|trap/, '...is none of ours';
};

sub post {
	my ($content, %headers) = @_;

	$content = encode_json($content) if ref $content;
	return HTTP::Tiny->new(timeout => 20)->post(
	    "http://127.0.0.1:$http/report", { content => $content,
	    headers => { Authorization => 'Bearer sesame', %headers } });
}

subtest 'HTTP' => sub {
	my $reply = post({ id => $id, outcome => 'spam' });

	is $reply->{status}, 200, 'a report';
	is_deeply decode_json($reply->{content}), { ok => JSON::PP::true },
	    '...is confirmed';
	is post({ id => $id, outcome => 'spam', undo => JSON::PP::true })
	    ->{status}, 200, 'taken back';
	is post({ id => 'NOSUCHID', outcome => 'spam' })->{status}, 404,
	    'of a message that is not known';
	is post($_)->{status}, 400, "not a report: $_" for '', '{', '[]',
	    '{"id": "x y", "outcome": "spam"}',
	    '{"id": "x", "outcome": "nice"}', '{"id": "x"}',
	    '{"id": "x", "outcome": "spam", "more": 1}';
	is post({}, Authorization => $_)->{status}, 401, "not allowed: $_"
	    for 'Bearer sesam', 'Bearer sesame1', 'Basic sesame';
	is post('x' x 5000)->{status}, 413, 'too long';
	is(HTTP::Tiny->new->get("http://127.0.0.1:$http/metrics")->{status},
	    501, 'nothing else is served');
};

# What the server says to these bytes before it closes.
sub raw {
	my ($bytes) = @_;
	my $client = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$http");
	local $SIG{PIPE} = 'IGNORE';
	local $SIG{ALRM} = sub { die "no end\n" };
	my $reply = '';

	print $client $bytes;
	$client->flush;
	alarm 20;
	1 while sysread $client, $reply, 4096, length $reply;
	alarm 0;
	return $reply;
}

subtest 'clients that misbehave' => sub {
	my $head = "POST /report HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" .
	    "Authorization: Bearer sesame\r\n";
	my $body = encode_json({ id => $id, outcome => 'trap' });
	my %bad = ('TLS' => "\x16\x03\x01\x02\x00\x01\r\n\r\n",
	    'a field without end' => $head . 'X: ' . 'x' x 20000,
	    'fields without end' => $head . "X: x\r\n" x 5000,
	    'a negative length' => "${head}Content-Length: -1\r\n\r\n$body",
	    'a huge length' =>
		"${head}Content-Length: 99999999999\r\n\r\n$body",
	    'chunks without end' => "${head}Transfer-Encoding: chunked\r\n\r\n"
		. ("3e8\r\n" . 'x' x 1000 . "\r\n") x 100,
	    'a name and a NUL' => sprintf("%sContent-Length: %d\r\n\r\n%s",
		$head, length($body) + 6, $body =~ s/$id/$id\\u0000/r));
	my @slow = map { IO::Socket::INET->new(PeerAddr =>
	    "127.0.0.1:$http") } 1 .. 300;

	print $_ $head for @slow;
	$_->flush for @slow;
	for my $name (sort keys %bad) {
		unlike raw($bad{$name}), qr/^HTTP\S+ 200/, "$name: refused";
		is post({ id => $id, outcome => 'spam' })->{status}, 200,
		    "$name: others are heard";
	}
	is heard('trap'), 0, 'nothing came of it';
};

subtest 'without the policy process' => sub {
	my ($pid) = $server->children('policy');

	kill 'STOP', $pid;
	my $client = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$http");
	my $body = encode_json({ id => $id, outcome => 'spam' });
	print $client "POST /report HTTP/1.1\r\nHost: x\r\nAuthorization: " .
	    "Bearer sesame\r\nContent-Length: " . length($body) .
	    "\r\n\r\n$body";
	close $client;
	kill 'CONT', $pid;
	is post({ id => $id, outcome => 'spam' })->{status}, 200,
	    'who has gone disturbs nobody';
};

subtest 'configuration' => sub {
	my $bad = start_millgate(only_configure => 1, text =>
	    "console { feedback = { \"127.0.0.1:$http\" } }\n");
	my ($status, $output) = run_command($bad->command('-n'));

	is $status, 78, 'no token';
	like $output, qr/millgate\.conf:\d+: .*needs a feedback_token/,
	    '...by its line';
};

ok sanitizers_silent($server->log), 'sanitizers have nothing to say';
$server->stop;
done_testing;
