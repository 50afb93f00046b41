#!/usr/bin/perl
# /metrics: what was counted, in text that Prometheus can read.
use strict;
use warnings;
use Test::More;
use IO::Socket::INET;
use Millgate::Peers;
use Millgate::Test;

my $metrics_port = free_port();
my $sink = start_sink();
my $server = start_millgate(text => <<"END");
trusted_networks = { "192.0.2.0/24" }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
}
route example.test { via = { "smtp:127.0.0.1:$sink->{port}" } }
console { metrics = { "127.0.0.1:$metrics_port" } }
END

# The answer to a request: status, header, body.
sub request {
	my ($text) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
	    PeerPort => $metrics_port, Timeout => 5) or die "connect: $!";
	my $answer = '';

	local $SIG{ALRM} = sub { die "no answer\n" };
	local $SIG{PIPE} = 'IGNORE';	# it may refuse before it has all
	alarm 20;
	print $socket $text;
	while (sysread $socket, $answer, 65536, length $answer) { }
	alarm 0;
	my ($head, $body) = split /\r\n\r\n/, $answer, 2;
	my ($status) = ($head // '') =~ m{^HTTP/1\.\d (\d+)};
	return ($status // 0, $head // '', $body // '');
}

sub get {
	my ($path) = @_;
	return request("GET $path HTTP/1.1\r\nHost: x\r\n" .
	    "Connection: close\r\n\r\n");
}

# The samples by name and labels; complains of what is not in the format.
sub scrape {
	my ($status, $head, $body) = get('/metrics');
	my (%samples, %type, %help, @bad);

	is($status, 200, 'a scrape');
	like($head, qr{^Content-Type: text/plain; version=0\.0\.4}m,
	    'its type');
	for my $line (split /\n/, $body) {
		if ($line =~ /^# HELP (\w+) \S/) {
			push @bad, $line if $help{$1}++;
		} elsif ($line =~ /^# TYPE (\w+) (counter|gauge|histogram)$/) {
			push @bad, $line if $type{$1};
			$type{$1} = $2;
		} elsif ($line =~ /^(\w+)((?:\{(?:\w+="(?:[^"\\]|\\.)*",?)+\})?)
		    \ (-?\d+(?:\.\d+)?)$/x) {
			my ($name, $key, $value) = ($1, "$1$2", $3);
			my $family = $name =~
			    s/_(?:bucket|sum|count)$//r;
			my $of = $type{$name} // '';

			$of = $type{$family} // '' if $of eq '';
			push @bad, "$line (no type)" if $of eq '';
			push @bad, "$line (no help)" unless $help{$name} ||
			    $help{$family};
			push @bad, "$line (twice)" if exists $samples{$key};
			$samples{$key} = $value;
		} else {
			push @bad, $line;
		}
	}
	like($body, qr/\n\z/, 'it ends in a line feed');
	is_deeply(\@bad, [], 'all lines are in the format, with help');
	return \%samples;
}

# Each bucket holds those below it; the last is the count.
sub check_histogram {
	my ($samples, $name) = @_;
	my ($last, $falls, $count) = (0, 0, 0);
	my %buckets = map { /le="([^"]+)"/ ? ($1 => $samples->{$_}) : () }
	    grep { /^\Q$name\E_bucket\{/ } keys %$samples;

	for my $le (sort { ($a eq '+Inf') <=> ($b eq '+Inf') ||
	    ($a eq '+Inf' ? 0 : $a <=> $b) } keys %buckets) {
		$falls++ if $buckets{$le} < $last;
		$last = $buckets{$le};
	}
	ok(keys %buckets > 5 && !$falls, "$name: buckets add up");
	is($last, $samples->{"${name}_count"}, "$name: the last is the count");
	return $last;
}

is((get('/healthz'))[0], 200, 'healthz');
is((get('/'))[0], 404, 'another page');
is((request("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" .
    "Connection: close\r\n\r\n"))[0], 501, 'POST');
isnt((request("GET /metrics HTTP/1.1\r\nX: " . 'x' x 20000 .
    "\r\n\r\n"))[0], 200, 'a header that is too large');

my $smtp = $server->smtp;
for (1 .. 5) {
	my $reply = $smtp->deliver(to => [ 'a@example.test',
	    'b@example.test' ]);
	like($reply, qr/^250 /, "message $_") or diag($reply);
}
like($smtp->deliver(to => 'x@elsewhere.test'), qr/^55/, 'one is refused');
wait_for('deliveries', sub { scalar($sink->messages) >= 5 });
wait_for('the history', sub {
	my (undef, undef, $body) = get('/metrics');
	return $body =~ /^millgate_history_messages [5-9]/m &&
	    $body =~ /^millgate_delivery_total\{status="sent"\} 10$/m;
});

my $samples = scrape();
is($samples->{'millgate_smtp_messages_total{result="accepted"}'}, 5,
    'messages, over all gateways');
is($samples->{'millgate_delivery_total{status="sent"}'}, 10, 'deliveries');
cmp_ok($samples->{millgate_smtp_sessions_total}, '>=', 1, 'sessions');
is($samples->{millgate_smtp_sessions}, 1, 'sessions now');
cmp_ok($samples->{millgate_history_bytes}, '>', 4096, 'the history');
my ($rejects) = grep { /^millgate_smtp_rejects_total\{/ } keys %$samples;
ok($rejects && $samples->{$rejects} == 1, 'a refusal by its reason');
is(check_histogram($samples, 'millgate_delivery_delay_seconds'), 10,
    'delays of deliveries');
check_histogram($samples, 'millgate_smtp_transaction_seconds');

# Counts go on over a reload, which begins with new processes.
$server->ctl('reload');
$server->wait_log(qr/reload: configuration \d/);
$smtp->close;
like($server->smtp->deliver, qr/^250 /, 'mail goes on');
wait_for('a sixth message', sub {
	my (undef, undef, $body) = eval { get('/metrics') };
	return ($body // '') =~
	    /^millgate_smtp_messages_total\{result="accepted"\} 6$/m;
});
$samples = scrape();
is($samples->{'millgate_smtp_messages_total{result="accepted"}'}, 6,
    'the sum goes on over a reload');

done_testing;
