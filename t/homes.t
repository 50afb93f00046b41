#!/usr/bin/perl
# Filters of ours in their homes: in the gateway, in a filter_host that the
# gateway reaches, and in one that a real Postfix and a real Sendmail use as a
# milter, behind our own front and behind libmilter.  The same messages get the
# same findings in each, and a signature in the hosts.
use strict;
use warnings;
use Millgate::Peers;
use Millgate::Sendmail;
use Millgate::Test;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Test::More;

my ($key, $record) = dkim_key('rsa', 2048);
my $dns = start_dns('sender.test' => [ '@ TXT "v=spf1 ip4:127.0.0.1 -all"',
    "rsa._domainkey TXT $record", '_dmarc TXT "v=DMARC1; p=reject"' ],
    'forged.test' => [ '@ TXT "v=spf1 -all"',
    '_dmarc TXT "v=DMARC1; p=reject"' ]);
my %port = map { $_ => free_port() } qw(inside auth library);
# A DNS server that never says anything.
my $silence = IO::Socket::INET->new(Proto => 'udp',
    LocalAddr => '127.0.0.1:0') or die "socket: $@";
my $sink = start_sink();
my $text = <<"END";
gateways = 1
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs}, "slow.test=127.0.0.1\@@{[
    $silence->sockport ]}" }
dns_timeout = 2s
dmarc { temperror = accept }
route "*" { via = { "smtp:127.0.0.1:$sink->{port}" } }
dkim_sign key {
	domains = { sender.test }  selector = rsa  key = "$key"
	listeners = { isolated, "postfix.example.test", MTA }
}
filter_host auth {
	filters = { spf, dkim, dmarc, authres, key }
	listen = { "127.0.0.1:$port{auth}" }
}
filter_host library {
	filters = { spf, dkim, dmarc, authres, key }
	listen = { "127.0.0.1:$port{library}" }
	front = libmilter
}
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { spf, dkim, dmarc, authres }
}
listener isolated {
	address = { "127.0.0.1:$port{inside}" }
	hostname_lookup = no
	filters = { auth }
}
END
my $gate = start_millgate(text => $text);
is((grep { /host-key/ } glob "$gate->{dir}/run/*"), 0,
    'a signer that only hosts name has no host of its own');

sub postfix_with {
	my ($milter) = @_;

	return start_postfix(main => { relayhost =>
	    "[127.0.0.1]:$sink->{port}", smtpd_milters => $milter,
	    milter_default_action => 'tempfail',
	    relay_domains => 'example.test',
	    smtpd_recipient_restrictions => 'permit_mynetworks, reject' });
}

sub sendmail_with {
	return start_sendmail(next_hop => $sink->{port}, milters => [ @_ ]);
}

my %homes = (inside => $gate->{port}, isolated => $port{inside},
    'native postfix' =>
	postfix_with("inet:127.0.0.1:$port{auth}")->{port},
    'library postfix' =>
	postfix_with("inet:127.0.0.1:$port{library}")->{port},
    'native sendmail' =>
	sendmail_with("inet:$port{auth}\@127.0.0.1")->{port},
    'library sendmail' =>
	sendmail_with("inet:$port{library}\@127.0.0.1")->{port});
my %name = (postfix => 'postfix.example.test',
    sendmail => 'sendmail.example.test');

# Each: name, sender, From, reply, results in Authentication-Results.
my @cases = (
	[ 'spf and dmarc pass', 'alice@sender.test', 'alice@sender.test',
	    qr/^250/, qr/spf=pass.*dmarc=pass/ ],
	[ 'a forgery is refused', 'alice@forged.test', 'alice@forged.test',
	    qr/^550[ -]5\.7\.1/ ],
);
my $number = 0;
for my $home (sort keys %homes) {
	for my $case (@cases) {
		my ($name, $sender, $from, $reply, $results) = @$case;
		my $tag = 'n' . $number++;
		my $id = $name{(split / /, $home)[-1]} //
		    'mx.example.test';
		my $said = new_smtp(port => $homes{$home})->deliver(
		    from => $sender, data => "X-Tag: $tag\r\n" .
		    "Authentication-Results: $id; spf=pass " .
		    "smtp.mailfrom=forged\r\n" . message(From => "<$from>"));

		like($said, $reply, "$home: $name");
		next unless defined $results;
		my $mail = wait_for("message $tag", sub {
			(grep { /^X-Tag: $tag\r?$/m } $sink->messages)[0] });
		my @fields = $mail =~ /^Authentication-Results:\s*
		    ((?:.*(?:\r?\n[ \t].*)*))/xmg;
		@fields = grep { /^\Q$id\E;/ } @fields;
		unlike($mail, qr/=forged/, "$home: the forged field is gone");
		like(join(' ', map { s/\r?\n//gr } @fields), $results,
		    "$home: $name, results");
		like($mail, qr/^DKIM-Signature: .*\bd=sender\.test/ms,
		    "$home: signed") unless $home eq 'inside';
	}
}

# OpenDKIM's tool that speaks as an MTA.
for my $front (qw(auth library)) {
	my ($status, $output) = run_command('miltertest', '-v', '-D',
	    "port=$port{$front}", '-s', source_dir() . '/t/lib/host.lua');
	is($status, 0, "$front: miltertest is content") or diag $output;
}

# And Mailfromd's, which ends a message and its body in one packet.  Of the
# steps that need no answer it knows no more than that there are such.
for my $front (qw(auth library)) {
	my %session = map { my $sender = "alice\@$_"; $_ => join "\r\n",
	    'HELO localhost', "MAIL FROM:<$sender>", 'RCPT TO:<bob@rcpt.test>',
	    'DATA', message(From => $sender) . '.', 'QUIT', '' }
	    qw(sender.test forged.test);
	my %said;

	for my $domain (keys %session) {
		my $input = write_file("session-$front", $session{$domain});
		(undef, $said{$domain}) = run_command('sh', '-c',
		    'exec timeout 30 mtasim -bs -v --gacopyz-log=debug ' .
		    '--milter-proto=127 -D daemon_name=MTA -D i=SIM1 ' .
		    '--sender-sockaddr=inet,localhost,127.0.0.1,1025 ' .
		    "-X inet:$port{$front}\@127.0.0.1 <$input");
	}
	like($said{'sender.test'}, qr/(?:response=i\n.*){2}^250 Mail accepted/ms,
	    "$front: mtasim is given results and signature");
	like($said{'forged.test'}, qr/(?<!=)550 5\.7\.1 /,
	    "$front: a forgery by mtasim is refused");
}

# An MTA that begins another session on the same connection (QUIT_NC), which
# libmilter allows behind a message that was accepted.
{
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port{library}")
	    or die "libmilter: $!";
	my $ask = sub {
		my ($code, $data) = @_;
		my ($head, $answer) = ('', '');

		syswrite $socket, pack('N', 1 + length $data) . $code . $data;
		do {
			sysread($socket, $head, 4) == 4 or return 'closed';
			sysread $socket, $answer, unpack 'N', $head;
		} while $answer =~ /^[ihm]/;
		return substr $answer, 0, 1;
	};

	is($ask->('O', pack 'NNN', 6, 0x1ff, 0), 'O', 'QUIT_NC: agreed');
	for my $session (1 .. 3) {
		my @answers = map { $ask->(@$_) }
		    [ 'C', "h.test\0004" . pack('n', 25) . "127.0.0.1\0" ],
		    [ 'H', "h.test\0" ], [ 'M', "<alice\@sender.test>\0" ],
		    [ 'R', "<bob\@rcpt.test>\0" ], [ 'T', '' ],
		    [ 'L', "From\0alice\@sender.test\0" ], [ 'N', '' ],
		    [ 'B', "text\r\n" ], [ 'E', '' ];

		is("@answers", 'c c c c c c c c c',
		    "QUIT_NC: session $session is served");
		syswrite $socket, pack('N', 1) . 'K';
	}
}

# A message whose filters are at work when the host is told to end: it waits
# for a DNS server, which has been asked for DMARC's record, so the header was
# there.  Returns a handle for the reply, which is 250 (temperror = accept): an
# MTA whose filter is gone defers.
sub begin_slow {
	my ($port) = @_;
	my $pid = open(my $reply, '-|') // die "fork: $!";

	if ($pid == 0) {
		print new_smtp(port => $port)->deliver(
		    from => 'alice@slow.test',
		    data => message(From => '<alice@slow.test>'));
		close STDOUT;
		POSIX::_exit(0);
	}
	wait_for('a question', sub {
		return 0 unless IO::Select->new($silence)->can_read(0.1);
		$silence->recv(my $question, 4096);
		return $question =~ /\x06_dmarc/i;
	});
	return $reply;
}

sub hosts { return join ' ', sort $gate->children('host') }

my @fronts = map { $homes{"$_ postfix"} } qw(native library);
my @slow = map { begin_slow($_) } @fronts;
my $before = hosts();
kill 'HUP', $gate->{pid};
for my $reply (@slow) {
	like(join('', <$reply>), qr/^250 /,
	    'a reload waits for the answer at the end of a message');
}
wait_for('new hosts alone', sub {
	my %now = map { $_ => 1 } split / /, hosts();
	return keys %now == 2 && !grep { $now{$_} } split / /, $before;
});
for my $port (@fronts) {
	like(new_smtp(port => $port)->deliver(from => 'alice@sender.test'),
	    qr/^250 /, 'and another follows');
}
@slow = map { begin_slow($_) } @fronts;
is($gate->stop >> 8, 0, 'Millgate ends');
for my $reply (@slow) {
	like(join('', <$reply>), qr/^250 /, 'so does its end');
}

# What is wrong is told before anything starts.
my %wrong = (
	'has no filters' => 'filter_host a { listen = { "127.0.0.1:1" } }',
	'there is no such filter' => 'filter_host a { filters = { nobody } }',
	'cannot be in another' => 'filter_host a { filters = { spf } } ' .
	    'filter_host b { filters = { a } }',
	'nosuch: no such group' => 'filter_host a { filters = { spf } ' .
	    'listen = { "unix:/tmp/none" } socket_group = nosuch }',
	'libmilter serves one address' => 'filter_host a { filters = { spf } ' .
	    'front = libmilter listen = { "127.0.0.1:1", "127.0.0.1:2" } }',
);
for my $problem (sort keys %wrong) {
	my $bad = start_millgate(only_configure => 1, text => $wrong{$problem});
	my ($status, $output) = run_command($bad->command('-n'));

	is($status, 78, "refused: $problem");
	like($output, qr/millgate\.conf:\d+: .*\Q$problem\E/, "...by its line");
}

ok(sanitizers_silent($gate->log), 'sanitizers have nothing to say');
done_testing;
