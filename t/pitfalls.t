#!/usr/bin/perl
# The pitfalls of the milter protocol, as people met them in other MTAs: where
# each has its test, and those that only show with real daemons and real time.
use strict;
use warnings;
use Millgate::Milters;
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(sleep time);

# Where the test is that names the pitfall.
my %where = (
	'pitfalls.t' => [ 51, 55, 67, 70, 73, 77 ],
	'unit/filters/milter_test.c' => [ 1 .. 13, 18 .. 21, 25 .. 35, 37 .. 42,
	    47 .. 50, 56 .. 58, 60 .. 64, 66, 69 ],
	'unit/filters/milter_content_test.c' => [ 14, 16, 17, 22 .. 24, 36,
	    43 .. 46, 52 .. 54, 59, 68, 74 .. 76 ],
	'unit/filters/milter_codec_test.c' => [ 65 ],
	'unit/filters/milter_place_test.c' => [ 15, 71, 72 ],
);

my %tested;
for my $file (sort keys %where) {
	my $text = read_file(source_dir() . "/t/$file");
	for my $number (map { sprintf 'P%02d', $_ } @{ $where{$file} }) {
		fail("$number is not in $file") unless $text =~ /\b$number\b/;
		$tested{$number} = $file;
	}
}
is_deeply([ grep { !$tested{$_} } map { sprintf 'P%02d', $_ } 1 .. 77 ], [],
    'each pitfall has its test');

my $pymilter = start_pymilter();
my %port = map { $_ => free_port() } qw(add see python ab ba);
start_pmilter('add', $port{add});
start_pmilter('see', $port{see});
ready($pymilter);

my $conf = <<"END";
gateways = 1
trusted_networks = { "127.0.0.0/8" }
relay_domains = { example.test }
dns_forwarders = { "127.0.0.1\@9" }
dns_timeout = 100ms
route "*" { via = { "maildir:\@DIR\@/mail" } }
milter python { endpoint = { "$pymilter->{endpoint}" } }
milter add { endpoint = { "127.0.0.1:$port{add}" } }
milter see { endpoint = { "127.0.0.1:$port{see}" } trace = 1M }
listener python {
	address = { "127.0.0.1:$port{python}" }
	hostname_lookup = no
	filters = { python }
}
listener ab {
	address = { "127.0.0.1:$port{ab}" }
	hostname_lookup = no
	filters = { add, see }
}
listener ba {
	address = { "127.0.0.1:$port{ba}" }
	hostname_lookup = no
	filters = { see, add }
}
END
my $gate = start_millgate(text => $conf);

# Up to the end of the message, which is told but not yet answered.
sub begin {
	my ($client, @tests) = @_;

	$client->command('EHLO client.sender.test') unless $client->{began}++;
	$client->command('MAIL FROM:<alice@sender.test>');
	$client->command('RCPT TO:<bob@example.test>');
	$client->command('DATA');
	$client->send(join('', map { "X-Test: $_\r\n" } @tests) . message() .
	    ".\r\n");
}

sub delivered {
	my ($reply) = @_;
	my ($id) = $reply =~ /^250 .*queued as (\w+)/ or return '';

	$gate->wait_log(qr/$id: removed/);
	return (grep { /^Received:.*\b$id\b/ms } mailbox("$gate->{dir}/mail"))
	    [0] // '';
}

subtest 'P67: small writes over TCP wait for nobody' => sub {
	my $client = new_smtp(port => $port{python});
	my $fastest = 10;

	for (1 .. 20) {
		my $start = time;
		begin($client, map { "add X-Kept $_" } 1 .. 5);
		like($client->reply, qr/^250 /, "message $_");
		my $took = time - $start;
		$fastest = $took if $took < $fastest;
	}
	$client->close;
	# A delayed acknowledgement takes 40 ms, and each message had some.
	cmp_ok($fastest, '<', 0.035, 'less than a delayed acknowledgement');
};

subtest 'P77: the order of filters, and a set for each listener' => sub {
	my $client = new_smtp(port => $port{ab});
	my $mail = delivered($client->deliver);

	like($mail, qr/^X-Seen:.*X-PMilter=/m, 'the first one first');
	$client->close;
	$client = new_smtp(port => $port{ba});
	$mail = delivered($client->deliver);
	unlike($mail, qr/^X-Seen:.*X-PMilter=/m, 'turned round');
	like($mail, qr/^X-PMilter:/m, 'both are asked');
	$client->close;
	$client = new_smtp(port => $port{python});
	unlike(delivered($client->deliver), qr/^X-(?:Seen|PMilter)/m,
	    'none of another listener');
	$client->close;
};

subtest 'P51, P55: where the header ends, and what the end holds' => sub {
	my $client = new_smtp(port => $port{ba});
	my $reply = $client->deliver(data =>
	    "Subject: odd\r\nX-Odd: yes\r\nno field\r\n\r\nbody\r\n");
	like($reply, qr/^250 /, 'a header that ends without a blank line');
	like(delivered($reply), qr/\r?\n\r?\nno field\r?\n\r?\nbody\r?\n\z/,
	    'the rest is body');
	$client->command('QUIT');
	$client->close;
	my ($file) = glob "$gate->{dir}/spool/trace/see.g*";
	my $text;
	wait_for('the recording', sub {
		(undef, $text) = $gate->ctl('milter', 'trace', $file);
		return $text =~ /X-Odd.*> quit/s;
	});
	unlike($text, qr/> header no field/, 'no field is made of it');
	like($text, qr/> body \d+ bytes "no field\\r\\n\\r\\nbody\\r\\n"$/m,
	    'the milter sees the rest as body, whole');
	like($text, qr/> eom$/m, 'the end is told');
	unlike($text, qr/> eom ./, 'and holds nothing');
};

subtest 'P73: a reload amid a message' => sub {
	my $client = new_smtp(port => $port{python});

	$client->command('EHLO client.sender.test');
	$client->command('MAIL FROM:<alice@sender.test>');
	like($client->command('RCPT TO:<bob@example.test>'), qr/^250 /,
	    'a message has begun');
	$gate->configure($conf =~ s/filters = \{ python \}/filters = { }/r);
	is(($gate->ctl('reload'))[0], 0, 'reload: without the milter');
	$client->command('DATA');
	$client->send("X-Test: add X-Kept yes\r\n" . message() . ".\r\n");
	like(delivered($client->reply), qr/^X-Kept: yes/m,
	    'the message is seen by the milter that it began with');
	$client->close;
	$client = new_smtp(port => $port{python});
	begin($client, 'add X-Kept yes');
	unlike(delivered($client->reply), qr/^X-Kept/m,
	    'one of a new session is not');
	$client->close;
	$gate->configure($conf);
	is(($gate->ctl('reload'))[0], 0, 'reload: as before');
};

subtest 'P70: libmilter is told to end' => sub {
	my ($busy, $idle) = map { new_smtp(port => $port{python}) } 1 .. 2;

	$idle->command('EHLO client.sender.test');
	$idle->command('MAIL FROM:<alice@sender.test>');
	like($idle->command('RCPT TO:<bob@example.test>'), qr/^250 /,
	    'a session waits within a message');
	begin($busy, 'wait 1', 'add X-Kept yes');
	# Nobody else can say when it is at it.
	sleep 0.3;
	kill 'TERM', $pymilter->{pid};
	like(delivered($busy->reply), qr/^X-Kept: yes/m,
	    'what it was at is answered');
	stop_process($pymilter->{pid});
	$pymilter->run;
	ready($pymilter);
	$idle->command('DATA');
	$idle->send("X-Test: add X-Kept yes\r\n" . message() . ".\r\n");
	like(delivered($idle->reply), qr/^X-Kept: yes/m,
	    'the other is told to the one that follows');
	$_->close for $busy, $idle;
};

$pymilter->kill;
is($gate->stop, 0, 'stops well');
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
