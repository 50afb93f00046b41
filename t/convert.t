#!/usr/bin/perl
# Conversion: what is signed survives a Postfix that meets a host without
# 8BITMIME; what is not is converted for such a host, or returned if it can't be;
# and nothing of what messages hold is lost.
use strict;
use warnings;
use IO::Socket::INET;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my ($key, $record) = dkim_key('rsa', 2048);
my $keys = write_file('keys', join '', map { s/" "|"//gr }
    "rsa._domainkey.sender.test $record\n");

my %port = map { $_ => free_port() } qw(signed lines unconverted filtered cut
    milter libmilter postfix_milter postfix_libmilter);

# A host that takes no 8-bit text, one that does, and a Postfix before the first.
# Two more doors of it have the signer for a milter.
my $seven = start_sink(replies => { EHLO => '250-sink\r\n250 PIPELINING' });
my $eight = start_sink();
my $postfix = start_postfix(main => {
	relay_domains => 'postfix.test',
	relay_transport => "relay:[127.0.0.1]:$seven->{port}",
}, services => [ map { [ "127.0.0.1:$port{qq(postfix_$_)}", 'inet n - n - - ' .
    "smtpd -o smtpd_milters=inet:127.0.0.1:$port{$_}" ] }
    qw(milter libmilter) ]);
my $dovecot = start_dovecot();

my $gate = start_millgate(text => <<"END");
memory_limit = 64K
dns_forwarders = { "127.0.0.1\@9" }
dns_timeout = 100ms
route "postfix.test" { via = { "smtp:[127.0.0.1]:$postfix->{port}" } }
route "seven.test" { via = { "smtp:[127.0.0.1]:$seven->{port}" } }
route "eight.test" { via = { "smtp:[127.0.0.1]:$eight->{port}" } }
route "dovecot.test" { via = { "lmtp:[127.0.0.1]:$dovecot->{port}" } }
route "sender.test" { via = { "maildir:\@DIR\@/mail" } }
dkim_sign signed {
	domains = { sender.test }  selector = rsa  key = "$key"
}
dkim_sign lines {
	domains = { sender.test }  selector = rsa  key = "$key"
	convert = long_lines
}
dkim_sign unconverted {
	domains = { sender.test }  selector = rsa  key = "$key"
	convert = no
}
filter_host milter {
	filters = { signed }
	listen = { "127.0.0.1:$port{milter}" }
}
filter_host libmilter {
	filters = { signed }
	listen = { "127.0.0.1:$port{libmilter}" }
	front = libmilter
}
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
}
listener cut {
	address = { "127.0.0.1:$port{cut}" }
	hostname_lookup = no
	cut_through = yes
}
@{[ map { <<"END2" } qw(signed lines unconverted) ]}
listener $_ {
	address = { "127.0.0.1:$port{$_}" }
	hostname_lookup = no
	filters = { $_ }
}
END2
listener filtered {
	address = { "127.0.0.1:$port{filtered}" }
	hostname_lookup = no
	filters = { convert, signed }
}
END
my $port = $gate->{port};
my $number = 0;

# Sends a message, named in a field of its own: (reply, id, text as sent).
sub deliver {
	my ($port, $to, $text, %options) = @_;
	my $name = 'n' . ++$number;
	my $client = new_smtp(port => $port);

	$text = "X-Number: $name\r\n$text";
	my $reply = $client->deliver(to => $to, data => $text, %options);
	$client->close;
	my ($id) = $reply =~ /^250 .*(?:queued as|delivered as|:) (\w+)/;
	return ($reply, $id, $text);
}

# What a sink took of the last message, without the dots of SMTP.
sub taken {
	my ($sink) = @_;

	return wait_for("message n$number", sub {
		(grep { /^X-Number: n$number\r$/m } $sink->messages)[0];
	}) =~ s/^\.//mgr;
}

# Python shall find the same in both; it is asked once, for all of them.
my @pairs;
sub is_same {
	my ($name, $got, $sent) = @_;
	my $path = test_dir() . '/pair' . @pairs;

	push @pairs, [ $name, write_file("$path.got", $got),
	    write_file("$path.sent", $sent) ];
}

sub compare_pairs {
	my ($status, $output) = run_command(source_dir() . '/t/lib/mime-python',
	    'Subject,References,X-Number', map { @$_[1, 2] } @pairs);
	my %found = $output =~ /^file (\S+)\n((?:(?!file ).*\n)+)/mg;

	is($status, 0, 'Python reads all messages') or diag($output);
	is($found{$_->[1]}, $found{$_->[2]} // 'nothing', $_->[0])
	    for @pairs;
}

sub is_plain {
	my ($name, $text) = @_;

	unlike($text, qr/[\x80-\xff]/, "$name: has no 8-bit text");
	unlike($text, qr/[^\n]{1000}/, "$name: has no long line");
}

sub verdicts {
	my ($text) = @_;
	return join ' ', map { /^(\w+)/ } split /\n/,
	    dkim_python($text, 'verify', $keys);
}

# --- messages that are to be converted ---

my $text = "Gr\xc3\xbc\xc3\x9fe \r\n.\r\n..\r\n--boundary\r\n\t\r\n";
my $image = join('', map { chr } 0x80 .. 0xff) x 20 . "\r\n";
my $long = 'a long line ' x 500 . "\r\n";
my $multipart = <<"END" =~ s/\n/\r\n/gr;
This is a preamble.

--=_1
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Gr\xc3\xbc\xc3\x9fe,

--=_1x is no boundary.
--=_1
Content-Type: multipart/alternative;
	boundary="=_1 2"
Content-Transfer-Encoding: 8bit

--=_1 2

@{[ 'wide ' x 300 ]}
--=_1 2 \t
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: 8bit

<p>Gr\xfc\xdfe</p>   
--=_1 2--

--=_1
Content-Type: application/octet-stream; name=a.bin
Content-Disposition: attachment; filename=a.bin
Content-Transfer-Encoding: binary

@{[ $image =~ s/\r//r ]}
--=_1
Content-Type: application/pgp-keys

untouched\t \n   
--=_1--
This is an epilogue.
END
my %mixed = ('MIME-Version' => '1.0',
    'Content-Type' => 'multipart/mixed; boundary="=_1"',
    'Content-Transfer-Encoding' => '8bit');
my @cases = (
	[ 'UTF-8', message(body => $text) ],
	[ 'Latin 1 of its own type', message(body => "Gr\xfc\xdfe\r\n" x 3,
	    'Content-Type' => 'text/plain; charset=iso-8859-1',
	    'MIME-Version' => '1.0') ],
	[ 'no known charset', message(body => "Gr\xfc\xdfe\r\n") ],
	[ 'an image', message(body => $image, 'Content-Type' => 'image/png',
	    'MIME-Version' => '1.0',
	    'Content-Transfer-Encoding' => 'binary') ],
	[ 'a long line', message(body => "x\r\n$long") ],
	[ 'a long field', message(References =>
	    join ' ', map { "<$_\@sender.test>" } 1 .. 100) ],
	[ 'long base64', message(body => 'QUJD' x 700 . "\r\n",
	    'Content-Type' => 'image/png', 'MIME-Version' => '1.0',
	    'Content-Transfer-Encoding' => 'base64') ],
	[ 'long quoted-printable', message(body => 'a =3D=C3=BC' x 200 .
	    "\r\n", 'MIME-Version' => '1.0', 'Content-Type' => 'text/html',
	    'Content-Transfer-Encoding' => 'quoted-printable') ],
	[ 'a multipart', message(%mixed, body => $multipart) ],
	[ 'one without an end', message(%mixed,
	    body => $multipart =~ s/--=_1--.*//sr) ],
	[ 'more than fits into memory', message(body => $text x 5000) ],
);

for my $case (@cases) {
	my ($name, $message) = @$case;

	# Signed, by way of Postfix.
	my ($reply, $id, $sent) = deliver($port{signed}, 'bob@postfix.test',
	    $message);
	like($reply, qr/^250 /, "$name: taken");
	my $got = taken($seven);
	is_plain("$name, signed", $got);
	is_same("$name, signed: is the same", $got, $sent);
	is(verdicts($got), 'pass', "$name: the signature holds");

	# Not signed, straight to the host.
	($reply, $id, $sent) = deliver($port, 'bob@seven.test', $message);
	$got = taken($seven);
	is_plain("$name, relayed", $got);
	is_same("$name, relayed: is the same", $got, $sent);

	# To one that takes 8-bit text, and while the client waits.
	($reply, $id, $sent) = deliver($port{cut}, 'bob@eight.test', $message);
	like($reply, qr/^250 .*: 250 2\.0\.0 kept/,
	    "$name: delivered at once");
	$got = taken($eight);
	unlike($got, qr/[^\n]{1000}/, "$name, delivered: no long line");
	is_same("$name, delivered: is the same", $got, $sent);
}

# Postfix has to convert what we haven't: the tests above can fail.
{
	deliver($port{unconverted}, 'bob@postfix.test', $cases[8][1]);
	is(verdicts(taken($seven)), 'fail', 'unconverted: breaks on the way');
	deliver($port{lines}, 'bob@postfix.test', $cases[8][1]);
	is(verdicts(taken($seven)), 'fail', 'long_lines: so does 8-bit text');
	deliver($port{lines}, 'bob@postfix.test', message(body => $long));
	is(verdicts(taken($seven)), 'pass', 'long_lines: they are converted');
	my (undef, undef, $sent) = deliver($port{lines}, 'bob@eight.test',
	    $cases[0][1]);
	like(taken($eight), qr/Gr\xc3\xbc\xc3\x9fe/,
	    'long_lines: 8-bit text stays');
	like((grep { /^MAIL/ } $eight->commands)[-1], qr/ BODY=8BITMIME/,
	    'and is declared');
}

# The filter of its own, before a signer that then has nothing to do.
{
	my (undef, $id, $sent) = deliver($port{filtered}, 'bob@postfix.test',
	    $cases[8][1]);
	my $got = taken($seven);
	is_plain('the filter', $got);
	is_same('the filter: is the same', $got, $sent);
	is(verdicts($got), 'pass', 'the filter: the signature holds');
	$gate->tells([ 'explain', $id ],
	    qr/convert: converted: 4 parts, from \d+ to \d+ octets/,
	    'explain tells of it');
}

# As a milter of Postfix, by either front.
for my $front (qw(milter libmilter)) {
	for my $case (@cases[0, 8]) {
		my ($reply, $id, $sent) = deliver($port{"postfix_$front"},
		    'bob@postfix.test', $case->[1]);
		my $got = taken($seven);
		is_plain("$front, $case->[0]", $got);
		is_same("$front, $case->[0]: is the same", $got, $sent);
		is(verdicts($got), 'pass',
		    "$front, $case->[0]: the signature holds");
	}
}

# --- messages that must not be touched ---

my $signature = 'v=1; a=rsa-sha256; d=elsewhere.test; s=x; h=from; bh=; b=';
my @untouchable = (
	[ 'signed by DKIM', message('DKIM-Signature' => $signature,
	    body => $text), 'it is signed' ],
	[ 'multipart/signed', message(%mixed, body => $multipart,
	    'Content-Type' => 'multipart/signed; boundary="=_1"'),
	    'it is signed or encrypted' ],
	[ 'an encrypted part', message(%mixed, body => $multipart =~
	    s{application/octet-stream}{application/pkcs7-mime}r),
	    'it holds what is signed or encrypted' ],
	[ 'a forwarded message', message(%mixed, body => $multipart =~
	    s{text/plain[^\r]*}{message/rfc822}r), 'it holds another message' ],
);

for my $case (@untouchable) {
	my ($name, $message, $why) = @$case;
	my ($reply, $id, $sent) = deliver($port, 'bob@seven.test', $message);
	$gate->wait_log(qr/$id: to=.*dsn=5\.6\.3, status=bounced/);
	my $bounce = wait_for("a bounce of n$number", sub {
		(grep { /^X-Number: n$number\r?$/m }
		    mailbox("$gate->{dir}/mail"))[0];
	});
	like($bounce, qr/^Status: 5\.6\.3\r?$/m, "$name: returned");
	like($bounce =~ s/\r?\n\s+/ /gr,
	    qr/8BITMIME is required, but was not offered by .*\Q$why\E/,
	    "$name: with the reason");

	($reply) = deliver($port{cut}, 'bob@seven.test', $message);
	like($reply, qr/^5\d\d 5\.6\.3 8BITMIME is required/,
	    "$name: refused while the client waits");

	# A host that takes 8-bit text gets it to the octet; and signed as it is.
	(undef, $id, $sent) = deliver($port{signed}, 'bob@eight.test',
	    $message);
	my $got = taken($eight);
	is(substr($got, -length($sent)) =~ s/.*?\r\n\r\n//sr,
	    $sent =~ s/.*?\r\n\r\n//sr, "$name: stays to the octet");
	like(verdicts($got), qr/^pass/, "$name: is signed all the same");
	$gate->wait_log(qr/$id: filter=signed not converted: \Q$why\E/);
}

{
	my ($reply, $id, $sent) = deliver($port, 'bob@eight.test',
	    message('DKIM-Signature' => $signature, body => $long));
	ok(index(taken($eight), $long) > 0, 'signed long lines stay');
	$gate->wait_log(qr/$id: sent with lines that are too long: it is signed/);

	# Nothing of all this where mail ends.
	deliver($port, 'bob@dovecot.test', message(body => "$text$long"));
	my $got = wait_for('Dovecot', sub { (mailbox($dovecot, 'bob'))[0] });
	ok(index($got =~ s/\r//gr, "$text$long" =~ s/\r//gr) > 0,
	    'a mailbox gets 8-bit text and long lines as they are');
}

compare_pairs();
is(scalar(grep { /[\x80-\xff]/ } $seven->messages), 0,
    'no 8-bit text to a host without 8BITMIME');
is($gate->stop, 0, 'stops well');
ok(sanitizers_silent($gate->log), 'no fault found');
done_testing;
