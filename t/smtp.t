# The SMTP server as clients meet it: commands and replies, BDAT, TLS, limits,
# time limits, and the log that pflogsumm digests.

use strict;
use warnings;

use IO::Socket::SSL ();
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(sleep time);

my %port = map { $_ => free_port() } qw(limits slow early implicit required
    few long);

sub certificate {
	my ($name) = @_;
	my $path = test_dir() . "/$name";

	my ($status, $output) = run_command('openssl', 'req', '-x509',
	    '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
	    '-days', 2, '-subj', "/CN=$name", '-addext',
	    "subjectAltName=DNS:$name", '-keyout', "$path.key", '-out',
	    "$path.pem");
	die $output if $status != 0;
	chmod 0644, "$path.key";
	return $path;
}

my $first = certificate('mx.example.test');
my $second = certificate('other.example.test');
my $gate = start_millgate(text => <<"END");
gateways = 1
relay_domains = { example.test }
trusted_networks = { "192.0.2.0/24" }
message_size_limit = 100K
tls_certificate = "$first.pem"
tls_key = "$first.key"
certificate other { chain = "$second.pem"  key = "$second.key" }
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp { address = { "127.0.0.1:\@PORT\@" } }
listener limits {
	address = { "127.0.0.1:$port{limits}" }
	max_recipients = 100
	max_errors = 3
	max_commands = 10
	max_messages = 2
	line_limit = 512
	max_received = 50
	max_header = 8K
}
listener slow {
	address = { "127.0.0.1:$port{slow}" }
	command_timeout = 700ms
	data_timeout = 1s
}
listener early {
	address = { "127.0.0.1:$port{early}" }
	greet_delay = 500ms
}
listener implicit { address = { "127.0.0.1:$port{implicit}" } tls = implicit }
listener required { address = { "127.0.0.1:$port{required}" } tls = required }
listener few {
	address = { "127.0.0.1:$port{few}" }
	max_sessions_per_client = 2
}
END

# The message that was answered so, as delivered, with CRLF.
sub delivered {
	my ($reply) = @_;
	my ($id) = $reply =~ /^250 2\.0\.0 Ok: queued as (\w+)/ or return '';
	my $file = wait_for("delivery of $id", sub {
		return (glob "$gate->{dir}/mail/new/$id*")[0];
	});
	return read_file($file) =~ s/(?<!\r)\n/\r\n/gr;
}

# How many messages have been queued so far.
sub queued {
	my $count = () = $gate->log =~ /\(queued\)/g;
	return $count;
}

sub envelope {
	my ($smtp, %options) = @_;

	$smtp->command('EHLO client.test');
	$smtp->command('MAIL FROM:<a@sender.test>' .
	    ($options{mail} // ''));
	return $smtp->command('RCPT TO:<bob@example.test>');
}

subtest 'greeting, EHLO, HELO' => sub {
	my $smtp = $gate->smtp;
	my $ehlo;

	like $smtp->{greeting}, qr/^220 mx\.example\.test ESMTP/, 'greeting';
	like $smtp->command('MAIL FROM:<a@b.test>'), qr/^503 5\.5\.1 /,
	    'MAIL before EHLO';
	$ehlo = $smtp->command('EHLO client.test');
	like $ehlo, qr/^250-mx\.example\.test\r\n/, 'our name comes first';
	like $ehlo, qr/^250[- ]\Q$_\E\r\n/m, "EHLO lists $_"
	    for 'PIPELINING', 'SIZE 102400', 'STARTTLS',
	    'ENHANCEDSTATUSCODES', '8BITMIME', 'DSN', 'SMTPUTF8', 'CHUNKING';
	unlike $ehlo, qr/AUTH|VRFY|XCLIENT|ETRN/, 'and nothing it has not';
	is $smtp->command('HELO client.test'), "250 mx.example.test\r\n",
	    'HELO';
	like $smtp->command($_), qr/^501 /, "\"$_\" is refused"
	    for 'EHLO', 'HELO', 'EHLO a b', 'EHLO a(b)', "EHLO a\tb",
	    'EHLO ' . 'a' x 300;
	like $smtp->command('EHLO [127.0.0.1]'), qr/^250/, 'a literal';
};

subtest 'small commands' => sub {
	my $smtp = $gate->smtp;
	my @cases = (
		[ 'EHLO client.test', qr/^250-/ ],
		[ 'NOOP', qr/^250 2\.0\.0 / ],
		[ 'noop with words', qr/^250 2\.0\.0 / ],
		[ 'RSET', qr/^250 2\.0\.0 / ],
		[ 'RSET now', qr/^501 5\.5\.4 / ],
		[ 'HELP', qr/^214 2\.0\.0 / ],
		[ 'VRFY bob', qr/^252 2\.\d\.\d / ],
		[ 'VRFY', qr/^501 5\.5\.4 / ],
		[ 'EXPN list', qr/^50[02] 5\.5\.[12] / ],
		[ 'TURN', qr/^50[02] 5\.5\.[12] / ],
		[ 'XCLIENT ADDR=192.0.2.1', qr/^5\d\d 5\.\d\.\d / ],
		[ 'AUTH PLAIN AGEAYg==', qr/^5\d\d 5\.\d\.\d / ],
		[ '', qr/^500 5\.5\.2 / ],
		[ 'DATA', qr/^503 5\.5\.1 / ],
		[ 'RCPT TO:<bob@example.test>', qr/^503 5\.5\.1 / ],
		[ 'MAIL FROM:<a@sender.test>', qr/^250 2\.1\.0 / ],
		[ 'MAIL FROM:<a@sender.test>', qr/^503 5\.5\.1 / ],
		[ 'DATA', qr/^503 5\.5\.1 / ],
		[ 'RCPT TO:<bob@example.test>', qr/^250 2\.1\.5 / ],
		[ 'DATA now', qr/^501 5\.5\.4 / ],
		[ 'RSET', qr/^250 2\.0\.0 / ],
		[ 'RCPT TO:<bob@example.test>', qr/^503 5\.5\.1 / ],
		[ 'QUIT', qr/^221 2\.0\.0 / ],
	);

	for my $case (@cases) {
		like $smtp->command($case->[0]), $case->[1], "\"$case->[0]\"";
	}
	is $smtp->reply, '', 'closed';
	$smtp = $gate->smtp;
	like $smtp->command('GET / HTTP/1.1'), qr/^421 4\.7\.0 /,
	    'another protocol';
	is $smtp->reply, '', 'is cut off';
};

subtest 'MAIL and RCPT' => sub {
	my $smtp = $gate->smtp;
	my @cases = (
		[ 'MAIL FROM:<>', 250 ],
		[ 'MAIL FROM:<a@b.test> SIZE=1000 BODY=8BITMIME', 250 ],
		[ 'mail from:<a@b.test>', 250 ],
		[ 'MAIL FROM: <a@b.test>', 250 ],
		[ 'MAIL FROM:<"a b"@b.test>', 250 ],
		[ 'MAIL FROM:<a@b.test> RET=HDRS ENVID=x+2By', 250 ],
		[ 'MAIL FROM:<a@b.test> AUTH=<>', 250 ],
		[ 'MAIL FROM:<a@b.test> SMTPUTF8', 250 ],
		[ "MAIL FROM:<\xc3\xa4\@b.test> SMTPUTF8", 250 ],
		[ "MAIL FROM:<\xc3\xa4\@b.test>", 553 ],
		[ "MAIL FROM:<\xff\@b.test> SMTPUTF8", 501 ],
		[ 'MAIL FROM:<a@b.test> SIZE=102401', 552 ],
		[ 'MAIL FROM:<a@b.test> SIZE=99999999999999999999', 552 ],
		[ 'MAIL FROM:<a@b.test> SIZE=-1', 501 ],
		[ 'MAIL FROM:<a@b.test> SIZE=1x', 501 ],
		[ 'MAIL FROM:<a@b.test> SIZE=1 SIZE=2', 501 ],
		[ 'MAIL FROM:<a@b.test> BODY=9BIT', 501 ],
		[ 'MAIL FROM:<a@b.test> FOO=BAR', 555 ],
		[ 'MAIL FROM:<a@b.test> ENVID=a+0D+0Ab', 501 ],
		[ 'MAIL FROM:a@b.test', 501 ],
		[ 'MAIL FROM:<a>', 553 ],
		[ 'MAIL FROM:<a@b.test', 501 ],
		[ 'MAIL FROM:<a@b..test>', 553 ],
		[ 'MAIL FROM:<a@-b.test>', 553 ],
		[ 'MAIL FROM:<' . 'a' x 256 . '@b.test>', 553 ],
		[ 'MAIL', 501 ],
	);

	$smtp->command('EHLO client.test');
	for my $case (@cases) {
		like $smtp->command($case->[0]), qr/^$case->[1] /,
		    "$case->[1]: $case->[0]";
		$smtp->command('RSET');
	}
	$smtp = $gate->smtp;
	$smtp->command('EHLO client.test');
	$smtp->command('MAIL FROM:<a@b.test>');
	@cases = (
		[ 'RCPT TO:<bob@example.test> NOTIFY=SUCCESS,FAILURE', 250 ],
		[ 'RCPT TO:<c@example.test> NOTIFY=NEVER ORCPT=rfc822;c@x',
		    250 ],
		[ 'RCPT TO:<Postmaster>', 250 ],
		[ 'RCPT TO:<postmaster@example.test>', 250 ],
		[ 'RCPT TO:<d@EXAMPLE.test>', 250 ],
		[ 'RCPT TO:<@a.test,@b.test:e@example.test>', 250 ],
		[ 'RCPT TO:<e@example.test> NOTIFY=NEVER,DELAY', 501 ],
		[ 'RCPT TO:<e@example.test> ORCPT=rfc822', 501 ],
		[ 'RCPT TO:<e@example.test> FOO=1', 555 ],
		[ 'RCPT TO:<>', 553 ],
		[ "RCPT TO:<\xc3\xa4\@example.test>", 553 ],
	);
	for my $case (@cases) {
		like $smtp->command($case->[0]), qr/^$case->[1] /,
		    "$case->[1]: $case->[0]";
	}
};

subtest 'pipelining' => sub {
	my $smtp = $gate->smtp;

	$smtp->send("EHLO client.test\r\nMAIL FROM:<a\@sender.test>\r\n" .
	    "RCPT TO:<bob\@example.test>\r\nRCPT TO:<x\@elsewhere.test>\r\n" .
	    "RCPT TO:<carol\@example.test>\r\nDATA\r\n");
	like $smtp->reply, $_, "$_" for qr/^250-/, qr/^250 2\.1\.0/,
	    qr/^250 2\.1\.5/, qr/^550 5\.7\.1/, qr/^250 2\.1\.5/, qr/^354 /;
	$smtp->send(message() . ".\r\nMAIL FROM:<b\@sender.test>\r\n" .
	    "RSET\r\nQUIT\r\n");
	like $smtp->reply, $_, "$_" for qr/^250 2\.0\.0 Ok: queued as \w+/,
	    qr/^250 2\.1\.0/, qr/^250 2\.0\.0/, qr/^221 /;

	$smtp = $gate->smtp;
	envelope($smtp);
	$smtp->send("DATA\r\n" . message() . ".\r\n");
	like $smtp->reply, qr/^(?:503|554) /, 'a body before 354';
	is $smtp->reply, '', 'is never read as commands';
};

subtest 'DATA keeps every byte' => sub {
	my $smtp = $gate->smtp;
	my $body = "..\r\n.x\r\n\r\n \r\ntrailing  \r\n\xff\xfe\x01\x7f\r\n" .
	    ('long' x 1000) . "\r\n\r\n.\r\n";

	my $text = delivered($smtp->deliver(data => message(
	    'X-Odd' => "a\r\n\tb  c ", body => $body)));

	is substr($text, -length $body), $body, 'the body';
	like $text, qr/^X-Odd: a\r\n\tb  c \r\n/m, 'the header';
	like $text, qr/^Received: from client\.sender\.test \(.*?\[127\.0\.0\.1\]\)\r
\tby mx\.example\.test with ESMTP id /ms, 'a Received field';
	like $text, qr/^Return-Path: <alice\@sender\.test>\r\n/,
	    'a Return-Path field';
};

subtest 'BDAT' => sub {
	my $smtp = $gate->smtp;
	my @chunks = ("From: a\@b.test\r\nSubj", "ect: bdat\r\n\r",
	    "\none\r\n.\r\n", "MAIL FROM:<inner\@x.test>\r\n",
	    "RCPT TO:<inner\@example.test>\r\n..\r\nend\r\n");

	envelope($smtp);
	for my $chunk (@chunks) {
		$smtp->send('BDAT ' . length($chunk) . "\r\n$chunk");
		like $smtp->reply, qr/^250 2\.0\.0 /, 'chunk';
	}
	$smtp->send("BDAT 0 LAST\r\n");
	like delivered($smtp->reply), qr/\r\n\r\none\r\n\.\r\nMAIL\ FROM:<inner\@x\.test>\r\n
	    RCPT\ TO:<inner\@example\.test>\r\n\.\.\r\nend\r\n\z/x,
	    'all of it is body, unchanged';

	my $whole = message();
	$smtp->send("MAIL FROM:<a\@b.test>\r\nRCPT TO:<bob\@example.test>\r\n" .
	    'BDAT ' . length($whole) . " LAST\r\n${whole}NOOP\r\n");
	like $smtp->reply, $_, "pipelined: $_" for qr/^250 2\.1\.0/,
	    qr/^250 2\.1\.5/, qr/^250 2\.0\.0 Ok: queued/, qr/^250 2\.0\.0 Ok/;

	for my $bad ('-1', '+10', '0x10', '99999999999999999999', 'x', '',
	    '5 FIRST', '1.5') {
		$smtp = $gate->smtp;
		envelope($smtp);
		like $smtp->command("BDAT $bad"), qr/^5(?:01|52) /,
		    "\"BDAT $bad\"";
		my $after = $smtp->command('DATA');
		ok $after eq '' || $after =~ /^503 /,
		    'then DATA gets no 354' or diag $after;
	}

	$smtp = $gate->smtp;
	$smtp->command('EHLO client.test');
	$smtp->send("BDAT 6\r\nNOOP\r\n");
	like $smtp->reply, qr/^503 /, 'a chunk without MAIL';
	envelope($smtp);
	$smtp->send("BDAT 4\r\na: b");
	like $smtp->reply, qr/^250 /, 'its bytes are dropped';
	like $smtp->command('DATA'), qr/^503 /, 'DATA after BDAT';
	like $smtp->command('RSET'), qr/^250 /, 'RSET between chunks';
	$smtp->send("BDAT 6 LAST\r\nNOOP\r\n");
	like $smtp->reply, qr/^503 /, 'ends the message';
	like $smtp->command('NOOP'), qr/^250 /, 'and the session goes on';
};

subtest 'BDAT too large, cut short, in small pieces' => sub {
	my $smtp = $gate->smtp;
	my $before = queued();
	my $refused = '';

	envelope($smtp);
	$smtp->send("BDAT 110000\r\n" . 'x' x 110000 . "NOOP\r\n");
	like $smtp->reply, qr/^552 5\.3\.4 /, 'over SIZE';
	like $smtp->reply, qr/^250 2\.0\.0 /, 'its chunk was read to the end';

	envelope($smtp);
	$smtp->send("BDAT 1000 LAST\r\nSubject: cut\r\n\r\n");
	$smtp->close;
	$gate->wait_log(qr/lost connection after BDAT/);

	$smtp = $gate->smtp;
	envelope($smtp);
	for (1 .. 20) {
		$smtp->send("BDAT 1\r\nx" x 100);
		for (1 .. 100) {
			$refused = $smtp->reply;
			last if $refused !~ /^250/;
		}
		last if $refused !~ /^250/;
	}
	like $refused, qr/^421 4\.7\.0 /, 'thousands of tiny chunks';
	is queued(), $before, 'nothing was queued';
};

subtest 'SIZE and 8BITMIME' => sub {
	my $smtp = $gate->smtp;
	my $line = 'x' x 70 . "\r\n";
	my $big = message(body => $line x 1500);

	like $smtp->deliver(data => $big), qr/^552 5\.3\.4 /,
	    'larger than it may be, and not announced';
	like $smtp->command('MAIL FROM:<a@b.test> SIZE=200000'),
	    qr/^552 5\.3\.4 /, 'announced';
	like $smtp->deliver(data => message(body => $line x 1400)), qr/^250 /,
	    'just below';
	like $smtp->deliver(from => 'a@b.test> BODY=8BITMIME SIZE=100',
	    data => message(Subject => "\xc3\xa4")) =~ s/^501.*//r,
	    qr/^(?:250|)/, '8BITMIME';
};

subtest 'SMTPUTF8' => sub {
	my $smtp = $gate->smtp;

	$smtp->command('EHLO client.test');
	$smtp->command("MAIL FROM:<\xc3\xa4\@b.test> SMTPUTF8 BODY=8BITMIME");
	like $smtp->command("RCPT TO:<b\xc3\xb6b\@example.test>"), qr/^250 /,
	    'recipient';
	$smtp->command('DATA');
	like delivered($smtp->command(message(Subject =>
	    "gr\xc3\xbc\xc3\x9fe") . '.')), qr/ with UTF8SMTP\b/,
	    'protocol in Received (RFC 6531, 3.7.3)';
};

subtest 'state that must not survive' => sub {
	my $smtp = $gate->smtp;
	my $before = queued();

	$smtp->command('EHLO client.test');
	$smtp->command('MAIL FROM:<a@b.test>');
	$smtp->command('RCPT TO:<bob@example.test>');
	$smtp->command('DATA');
	like $smtp->command("a: b\nc\r\n."), qr/^550 5\.5\.2 /, 'refused';
	like $smtp->command('RCPT TO:<bob@example.test>'), qr/^503 /,
	    'RCPT after a refused message';
	like $smtp->command('DATA'), qr/^503 /, 'DATA as well';
	for my $between ('EHLO again.test', 'HELO again.test', 'RSET') {
		$smtp->command('MAIL FROM:<a@b.test>');
		$smtp->command('RCPT TO:<bob@example.test>');
		$smtp->command($between);
		like $smtp->command('DATA'), qr/^503 /, "$between before DATA";
	}
	$smtp->command('MAIL FROM:<a@b.test> SIZE=999999999');
	like $smtp->command('RCPT TO:<bob@example.test>'), qr/^503 /,
	    'RCPT after a refused MAIL';
	$smtp->send("MAIL FROM:<a\@b.test> FOO=1\r\n" .
	    "RCPT TO:<bob\@example.test>\r\nDATA\r\n");
	like $smtp->reply, $_, "$_" for qr/^555 /, qr/^503 /, qr/^503 /;

	envelope($smtp);
	$smtp->command('DATA');
	$smtp->send(message() . ".\r\nQUIT\r\n");
	like $smtp->reply, qr/^250 /, 'QUIT behind the dot: kept';
	like $smtp->reply, qr/^221 /, 'and closed';
	# Its line in the log may come behind the reply.
	wait_for('a message', sub { queued() > $before });
	is queued(), $before + 1, 'one message, no more';

	$smtp = $gate->smtp;
	envelope($smtp);
	$smtp->command('DATA');
	$smtp->send("Subject: half\r\n\r\nhalf\r\n");
	$smtp->close;
	$gate->wait_log(qr/lost connection after DATA/);
	is queued(), $before + 1, 'half a message is none';
};

subtest 'STARTTLS' => sub {
	my $smtp = $gate->smtp;

	like $smtp->command('STARTTLS'), qr/^503 /, 'before EHLO';
	$smtp->command('EHLO client.test');
	like $smtp->command('STARTTLS now'), qr/^501 /, 'with an argument';
	$smtp->command('MAIL FROM:<a@sender.test>');
	like $smtp->starttls, qr/^220 2\.0\.0 /, 'handshake';
	is $smtp->{socket}->peer_certificate('commonName'),
	    'mx.example.test', 'our certificate';
	like $smtp->command('RCPT TO:<bob@example.test>'), qr/^503 /,
	    'the transaction is forgotten';
	like $smtp->command('MAIL FROM:<a@sender.test>'), qr/^503 /,
	    'EHLO is required again';
	my $ehlo = $smtp->command('EHLO client.test');
	unlike $ehlo, qr/STARTTLS/, 'not offered twice';
	like $smtp->command('STARTTLS'), qr/^503 /, 'nor done twice';
	my $text = delivered($smtp->deliver);
	like $text, qr/\bwith ESMTPS\b/, 'protocol in Received';
	like $text, qr/TLSv1\.[23]/, 'and the version';

	for my $case ([ 'other.example.test', 'other.example.test' ],
	    [ 'mx.example.test', 'mx.example.test' ],
	    [ 'unknown.test', 'mx.example.test' ],
	    [ 'a\\', 'mx.example.test' ]) {
		$smtp = $gate->smtp;
		$smtp->command('EHLO client.test');
		like $smtp->starttls(SSL_hostname => $case->[0]), qr/^220/,
		    "SNI $case->[0]";
		is $smtp->{socket}->peer_certificate('commonName'),
		    $case->[1], "gets $case->[1]";
	}
};

subtest 'commands behind STARTTLS' => sub {
	my $smtp = $gate->smtp;

	$smtp->command('EHLO client.test');
	$smtp->send("STARTTLS\r\nNOOP\r\nEHLO evil.test\r\n" .
	    "MAIL FROM:<evil\@evil.test>\r\n");
	like $smtp->reply, qr/^220 /, 'STARTTLS';
	ok(IO::Socket::SSL->start_SSL($smtp->{socket},
	    SSL_verify_mode => 0), 'handshake');
	like $smtp->command('RCPT TO:<bob@example.test>'),
	    qr/^503 5\.5\.1 Send HELO or EHLO first/,
	    'the first reply is for the first command under TLS';
	like $smtp->command('EHLO client.test'), qr/^250-/, 'EHLO';

	$smtp = $gate->smtp;
	$smtp->command('EHLO client.test');
	$smtp->command('STARTTLS');
	$smtp->send("EHLO in-clear.test\r\n");
	is $smtp->reply, '', 'clear text for a handshake: closed';
	$gate->wait_log(qr/TLS handshake with .* failed/);

	$smtp = $gate->smtp;
	$smtp->command('EHLO client.test');
	$smtp->command('STARTTLS');
	ok(!IO::Socket::SSL->start_SSL($smtp->{socket}, SSL_verify_mode => 0,
	    SSL_version => 'TLSv1_1'), 'TLS 1.1 is refused');
};

subtest 'TLS from the start, TLS required' => sub {
	my $smtp = new_smtp(port => $port{implicit}, no_greeting => 1);

	ok(IO::Socket::SSL->start_SSL($smtp->{socket}, SSL_verify_mode => 0,
	    SSL_hostname => 'other.example.test'), 'handshake');
	is $smtp->{socket}->peer_certificate('commonName'),
	    'other.example.test', 'SNI';
	like $smtp->reply, qr/^220 mx\.example\.test/, 'greeting';
	unlike $smtp->command('EHLO client.test'), qr/STARTTLS/, 'EHLO';
	like $smtp->deliver, qr/^250 /, 'a message';

	$smtp = new_smtp(port => $port{required});
	$smtp->command('EHLO client.test');
	like $smtp->command('MAIL FROM:<a@sender.test>'), qr/^530 5\.7\.0 /,
	    'no mail in clear';
	like $smtp->command('NOOP'), qr/^250 /, 'but NOOP';
	like $smtp->starttls, qr/^220 /, 'STARTTLS';
	like $smtp->deliver, qr/^250 /, 'then mail';
};

subtest 'limits' => sub {
	my $smtp = new_smtp(port => $port{limits});
	my @replies;

	$smtp->command('EHLO client.test');
	$smtp->command('MAIL FROM:<a@sender.test>');
	$smtp->send(join '', map { "RCPT TO:<u$_\@example.test>\r\n" }
	    1 .. 102);
	@replies = map { $smtp->reply } 1 .. 102;
	is scalar(grep { /^250 / } @replies), 100, '100 recipients';
	like $replies[$_], qr/^452 4\.5\.3 /, 'one more is too many'
	    for 100, 101;
	like $smtp->command('DATA'), qr/^354 /, 'those before stand';
	like $smtp->command(message() . '.'), qr/^250 /, 'and get it';

	like $smtp->command('NOOP ' . 'x' x 600), qr/^500 5\.5\.2 /,
	    'a long line';
	like $smtp->command('NOOP'), qr/^250 /, 'drops no more than itself';
	like $smtp->deliver, qr/^250 /, 'a second message';
	like $smtp->command('MAIL FROM:<a@sender.test>'), qr/^421 4\.7\.0 /,
	    'a third one is too many';
	is $smtp->reply, '', 'closed';

	$smtp = new_smtp(port => $port{limits});
	@replies = map { $smtp->command('BOGUS') } 1 .. 5;
	is join('', map { substr $_, 0, 3 } @replies), '500500500500421',
	    'errors are limited' or diag @replies;

	$smtp = new_smtp(port => $port{limits});
	$smtp->send("NOOP\r\n" x 15);
	@replies = map { $smtp->reply } 1 .. 11;
	is scalar(grep { /^250 / } @replies), 10, 'commands to no end';
	like $replies[10], qr/^421 4\.7\.0 /, 'are limited';

	$smtp = new_smtp(port => $port{limits});
	$smtp->send('EHLO ' . 'x' x 65536 . "\r\n");
	like $smtp->reply, qr/^50[01] /, 'EHLO of 64 KiB';
	$smtp->send('x' x 65536) or last for 1 .. 40;
	like $smtp->reply, qr/^421 |^$/, 'a line without end';

	$smtp = new_smtp(port => $port{limits});
	like $smtp->deliver(data => "Received: from a by b\r\n" x 50 .
	    message()), qr/^250 /, '50 Received fields';
	like $smtp->deliver(data => "Received: from a by b\r\n" x 51 .
	    message()), qr/^554 5\.4\.6 /, '51 are a loop';
	$smtp = new_smtp(port => $port{limits});
	like $smtp->deliver(data => 'X-Long: ' . 'x' x 9000 . "\r\n" .
	    message()), qr/^552 5\.3\.4 /, 'a header section too large';
};

subtest 'nobody takes all the sessions' => sub {
	my @held = map { new_smtp(port => $port{few}) } 1 .. 2;
	my $third = new_smtp(port => $port{few});

	like $_->{greeting}, qr/^220 /, 'within the limit' for @held;
	like $third->{greeting}, qr/^421 4\.7\.0 /, 'beyond it';
	is $third->reply, '', 'closed';
	like $gate->smtp->{greeting}, qr/^220 /,
	    'other listeners are not concerned';
	like $held[0]->command('QUIT'), qr/^221 /, 'one leaves';
	wait_for('room', sub {
		new_smtp(port => $port{few})->{greeting} =~ /^220 /;
	});
	pass 'another one gets in';
};

subtest 'early talker' => sub {
	my $smtp = new_smtp(port => $port{early}, no_greeting => 1);

	$smtp->send("EHLO client.test\r\n");
	like $smtp->reply, qr/^554 5\.5\.1 /, 'refused';
	is $smtp->reply, '', 'and closed';
	$smtp = new_smtp(port => $port{early});
	like $smtp->{greeting}, qr/^220 /, 'a patient client';
	like $smtp->deliver, qr/^250 /, 'may send';
};

# Sends a byte every 0.1 s until the server has had enough.
sub drip {
	my ($smtp, $byte) = @_;
	my $start = time;
	my $ready = '';

	vec($ready, fileno $smtp->{socket}, 1) = 1;
	while (time - $start < 10) {
		last if select my $r = $ready, undef, undef, 0.1;
		$smtp->send($byte) or last;
	}
	return time - $start;
}

subtest 'time limits' => sub {
	my ($idle, $command, $data, $chunk, $tls) =
	    map { new_smtp(port => $port{slow}) } 1 .. 5;
	my ($start, $took) = time;

	like $idle->reply, qr/^421 4\.4\.2 /, 'idle';
	$took = time - $start;
	ok $took > 0.3 && $took < 3, "cut off after $took s";

	$command = new_smtp(port => $port{slow});
	$took = drip($command, 'x');
	like $command->reply, qr/^421 4\.4\.2 /, 'a command byte by byte';
	ok $took > 0.5 && $took < 3, "cut off after $took s";

	$data = new_smtp(port => $port{slow});
	envelope($data);
	$data->command('DATA');
	$took = drip($data, "x: y\r\n");
	like $data->reply, qr/^421 4\.4\.2 /, 'content byte by byte';
	ok $took > 0.8 && $took < 3, "cut off after $took s";

	$chunk = new_smtp(port => $port{slow});
	envelope($chunk);
	$chunk->send("BDAT 1000 LAST\r\n");
	$took = drip($chunk, 'x');
	like $chunk->reply, qr/^421 4\.4\.2 /, 'a chunk byte by byte';
	ok $took > 0.8 && $took < 3, "cut off after $took s";
};

subtest 'pflogsumm digests the log' => sub {
	my $other = start_millgate(text => <<"END");
relay_domains = { example.test, dead.test, gone.test }
trusted_networks = { "192.0.2.0/24" }
route "*" { via = { "discard:" } }
route "dead.test" { via = { "smtp:[127.0.0.1]:1" } }
route "gone.test" { via = { "error:5.1.1 no such user" } }
END
	my $smtp = $other->smtp;
	my ($report, %count, $status);

	like $smtp->deliver(to => [ 'a@example.test', 'b@example.test' ]),
	    qr/^250/, 'for two';
	like $smtp->deliver(to => 'a@example.test'), qr/^250/, 'for one';
	like $smtp->deliver(to => 'a@dead.test'), qr/^250/, 'to be deferred';
	like $smtp->deliver(to => 'a@gone.test'), qr/^250/, 'to bounce';
	$smtp->command('RSET');
	like $smtp->deliver(to => 'a@elsewhere.test'), qr/^550/, 'refused';
	$smtp->command('RSET');
	like $smtp->deliver(data => "Received: from a by b\r\n" x 51 .
	    message()), qr/^554/, 'a loop';
	wait_for('the log', sub {
		my $sent = () = $other->log =~ /status=/g;
		my $refused = () = $other->log =~ /: reject: /g;
		return $sent >= 6 && $refused >= 2;
	});
	write_file('pflogsumm.in', $other->log);
	($status, $report) = run_command('pflogsumm',
	    '--syslog_name=millgate', test_dir() . '/pflogsumm.in');
	is $status, 0, 'pflogsumm runs';
	$count{$2} = $1 while $report =~ /^ +(\d+)\S* +(\w+)/mg;
	is $count{received}, 5, 'received: all that came to DATA';
	is $count{delivered}, 4, 'delivered, the bounce too';
	is $count{deferred}, 1, 'deferred';
	is $count{bounced}, 1, 'bounced';
	is $count{rejected}, 2, 'rejected';
	is $count{senders}, 1, 'senders';
	is $count{recipients}, 3, 'recipients' or diag $report;
	like $report, qr/Relay access denied/, 'reasons of refusals';
};

my @wild = grep { !utf8::decode($_) || /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/ }
    split /\n/, $gate->log;
is "@wild", '', 'the log holds printable lines only';
is $gate->stop, 0, 'ends well';
done_testing;
