#!/usr/bin/perl
# Mail of our own users: AUTH (RFC 4954) against a real Dovecot, by swaks.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256 sha256);
use MIME::Base64;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my ($key, $record) = dkim_key('example', 2048);
my ($ed, $ed_record) = dkim_key('example_ed');
my $certificate = test_dir() . '/certificate.pem';
my ($made, $said) = run_command('openssl', 'req', '-x509', '-new', '-key',
    $key, '-subj', '/CN=mx.example.test', '-days', '2', '-out', $certificate);
is($made, 0, 'a certificate') or diag($said);
my $dovecot = start_dovecot(users => { alice => 'wonder land' });
my ($port465, $strict) = (free_port(), free_port());

# The next hop, which trusts us; its filter tells who submitted the mail.
my $mailfromd = start_mailfromd(<<'END');
prog eom
do
  if macro_defined("auth_author")
    header_add("X-Author", getmacro("auth_author"))
  else
    header_add("X-Author", "nobody")
  fi
done
END
my $next = start_millgate(text => <<"END");
gateways = 1
relay_domains = { next.test }
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	auth = "unix:$dovecot->{auth}"
	auth_without_tls = yes
	filters = { mailfromd }
}
milter mailfromd { endpoint = { "$mailfromd->{endpoint}" } }
END
my $gate = start_millgate(text => <<"END");
gateways = 1
trusted_networks = { "192.0.2.0/24" }
tls_certificate = "$certificate"
tls_key = "$key"
route next.test { via = { "smtp:127.0.0.1:$next->{port}" } }
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener submission {
	address = { "127.0.0.1:\@PORT\@" }
	auth = "unix:$dovecot->{auth}"
	require_auth = yes
	max_auth_failures = 2
	filters = { authres, rsa, ed }
	sender_login = { "alice\@example.test = alice", "\@shared.test = alice bob",
	    "bob\@example.test = bob" }
}
dkim_sign rsa { domains = { example.test } selector = rsa key = "$key" }
dkim_sign ed { domains = { example.test } selector = ed key = "$ed" }
listener submissions {
	address = { "127.0.0.1:$port465" }
	tls = implicit
	auth = "unix:$dovecot->{auth}"
	require_auth = yes
}
listener strict {
	address = { "127.0.0.1:$strict" }
	auth = "unix:$dovecot->{auth}"
	auth_without_tls = yes
	max_auth_failures_per_client = 2
}
END

sub swaks {
	return run_command('swaks', '--server', '127.0.0.1', '--from',
	    'alice@example.test', '--to', 'bob@elsewhere.test', '--helo', 'h.test',
	    @_);
}

sub password { return ('--auth-user', 'alice', '--auth-password', $_[0]) }

for my $mechanism (qw(PLAIN LOGIN CRAM-MD5)) {
	my ($status, $output) = swaks('--port', $gate->{port}, '--tls',
	    '--auth', $mechanism, password('wonder land'));
	is($status, 0, "$mechanism after STARTTLS") or diag($output);
	my ($id) = $output =~ /queued as (\w+)/;
	ok($gate->wait_log(qr/$id: client=\S+, sasl_method=$mechanism, sasl_username=alice$/m),
	    "$mechanism: the log names the user");
}
my ($status, $output) = swaks('--port', $port465, '--tls-on-connect',
    '--auth', 'PLAIN', password('wonder land'));
is($status, 0, 'TLS from the start') or diag($output);
wait_for('delivery', sub { mailbox("$gate->{dir}/mail") == 4 });
my ($mail) = mailbox("$gate->{dir}/mail");
like($mail, qr/with ESMTPSA id/, 'Received says so');
is(scalar(grep { /^Authentication-Results: mx\.example\.test;\s+auth=pass smtp\.auth=alice\r?$/m }
    mailbox("$gate->{dir}/mail")), 3, 'Authentication-Results, too');

# Who gets it sees by DKIM, here as dkimpy reads it, that it is ours.
my $keys = write_file('keys', join '', map {
	"$_->[0]._domainkey.example.test. " .
	    ($_->[1] =~ s/"\s*"//gr =~ s/"//gr) . "\n"
} ['rsa', $record], ['ed', $ed_record]);
my ($signed) = grep { /^DKIM-Signature:/m } mailbox("$gate->{dir}/mail");
my @verified = split /\n/, dkim_python($signed // "From: x\r\n\r\n", 'verify',
    $keys);
is(@verified, 2, 'two signatures') or diag($signed);
like($_, qr/^pass .*d=example\.test/, 'verified') for @verified;

# SCRAM-SHA-256 (RFC 5802, 7677), which swaks doesn't know.
sub scram {
	my ($client, $password) = @_;
	my $bare = 'n=alice,r=rOprNGfwEbeRWgbNEkqO';
	my $reply = $client->command('AUTH SCRAM-SHA-256 ' .
	    encode_base64("n,,$bare", ''));
	my $first = decode_base64(($reply =~ /^334 (\S+)/)[0] // '');
	my ($nonce, $salt, $rounds) = $first =~ /^r=([^,]+),s=([^,]+),i=(\d+)/
	    or return $reply;
	my $u = hmac_sha256(decode_base64($salt) . pack('N', 1), $password);
	my $salted = $u;
	$salted ^= ($u = hmac_sha256($u, $password)) for 2 .. $rounds;
	my $client_key = hmac_sha256('Client Key', $salted);
	my $proof = $client_key ^ hmac_sha256("$bare,$first,c=biws,r=$nonce",
	    sha256($client_key));
	$reply = $client->command(encode_base64("c=biws,r=$nonce,p=" .
	    encode_base64($proof, ''), ''));
	# The server's signature is a challenge; nothing answers it.
	$reply = $client->command('') if $reply =~ /^334/;
	return $reply;
}

sub tls_client {
	my $client = $gate->smtp;
	$client->command('EHLO h.test');
	$client->starttls;
	my $reply = $client->command('EHLO h.test');
	return wantarray ? ($client, $reply) : $client;
}

like(scram(scalar tls_client(), 'wonder land'), qr/^235 2\.7\.0/, 'SCRAM');
like(scram(scalar tls_client(), 'other'), qr/^535 5\.7\.8/,
    'SCRAM, wrong password');

my $client = $gate->smtp;
unlike($client->command('EHLO h.test'), qr/AUTH/, 'no AUTH in clear text');
like($client->command('AUTH PLAIN AGEAYg=='), qr/^538 5\.7\.11/,
    'nor taken');
like($client->command('MAIL FROM:<a@b.test>'), qr/^530 5\.7\.0 .*STARTTLS/,
    'MAIL needs TLS');
$client->starttls;
like($client->command('EHLO h.test'), qr/^250-AUTH (?=.*PLAIN)(?=.*SCRAM)/m,
    'the mechanisms are those of Dovecot');
like($client->command('MAIL FROM:<a@b.test>'), qr/^530 5\.7\.0 Auth/,
    'MAIL needs AUTH');
my %steps = ('AUTH NONE' => 504, 'AUTH' => 501, 'AUTH PLAIN x' => 501);
like($client->command($_), qr/^$steps{$_}/, $_) for sort keys %steps;
like($client->command('AUTH LOGIN'), qr/^334 /, 'LOGIN begins');
like($client->command('*'), qr/^501 5\.7\.0/, 'and is cancelled');
$client->command('AUTH PLAIN');
like($client->command('A' x 9000), qr/^500 5\.5\.6/, 'a long response');
my $good = encode_base64("\0alice\0wonder land", '');
my $bad = encode_base64("\0alice\0looking glass", '');
$client->command('AUTH PLAIN');
like($client->command($good), qr/^235/, 'a response to a challenge');
like($client->command("AUTH PLAIN $good"), qr/^503/, 'a second time');
like($client->command('MAIL FROM:<alice@example.test>'), qr/^250/, 'MAIL');
like($client->command("AUTH PLAIN $good"), qr/^503/, 'within a transaction');

# Who may send as whom: by MAIL, then by From.
$client = tls_client();
$client->command("AUTH PLAIN $good");
like($client->command('MAIL FROM:<bob@example.test>'),
    qr/^553 5\.7\.1 <bob\@example\.test>: Sender address rejected: not owned by user alice /,
    "another's address");
like($client->command('MAIL FROM:<alice@elsewhere.test>'), qr/^553 5\.7\.1 /,
    "nobody's address");
like($client->command('MAIL FROM:<x@shared.test>'), qr/^250/,
    'an address of her domain');
like($client->command('RSET'), qr/^250/, 'RSET');
for (['Alice <alice@example.test>', qr/^250/],
    ['alice@example.test, "Help" <help@shared.test>', qr/^250/],
    ['Bob <bob@example.test>', qr/^550 5\.7\.1 <bob\@example\.test>: From address rejected: not owned by user alice /],
    ['alice@example.test, bob@example.test', qr/^550 5\.7\.1 <bob/],
    ['alice@example.test <bob@example.test>', qr/^550 5\.7\.1 <bob/],
    ["alice\@example.test\r\nFrom: bob\@example.test",
    qr/^550 5\.7\.1 From field rejected: several From fields /]) {
	my ($from, $want) = @$_;
	like($client->deliver(from => 'alice@example.test', to =>
	    'bob@elsewhere.test', data => message(From => $from)), $want,
	    "From: $from");
}
like($client->deliver(from => '', to => 'bob@elsewhere.test',
    data => message(From => 'alice@example.test')), qr/^250/,
    'a null sender, from her');
$gate->logs(qr/NOQUEUE: reject: MAIL from \S+\[127\.0\.0\.1\]: 553 5\.7\.1 <bob\@\S+ Sender address rejected: [^;]*; from=<bob\@example\.test> proto=ESMTPSA /,
    'the log tells');

# Whose submission it is (RFC 4954, 5), as the next hop is told.
my %authors = ('alice@example.test' => 'alice@example.test',
    'a+2Bl@shared.test' => 'a+l@shared.test', 'bob@example.test' => 'nobody',
    '<>' => 'nobody', '' => 'nobody');
for my $author (sort keys %authors) {
	like($client->deliver(from => 'alice@example.test', to => 'x@next.test',
	    parameters => $author ne '' ? " AUTH=$author" : '', data =>
	    message(From => 'alice@example.test', Subject => "of $author")),
	    qr/^250/, "AUTH=$author is taken");
	my $got = wait_for('the next hop', sub {
		(grep { /^Subject: of \Q$author\E\r?$/m }
		    mailbox("$next->{dir}/mail"))[0];
	});
	like($got, qr/^X-Author: \Q$authors{$author}\E\r?$/m,
	    "and told as $authors{$author}");
}
like($client->command('MAIL FROM:<alice@example.test> AUTH=alice'),
    qr/^501 5\.5\.4 /, 'AUTH= without a domain');

$client = tls_client();
like($client->command("AUTH PLAIN $bad"), qr/^535 5\.7\.8/,
    'wrong password') for 1 .. 2;
like($client->reply, qr/^421 4\.7\.0/, 'the session ends');
$gate->logs(qr/warning: \S+\[127\.0\.0\.1\]: SASL PLAIN authentication failed: /,
    'the line that fail2ban knows');

# Two failures are too many there, in whatever session they were.
sub strict_auth {
	my $strictly = new_smtp(port => $strict);

	$strictly->command('EHLO h.test');
	return $strictly->command("AUTH PLAIN $good");
}
like(strict_auth(), qr/^421 4\.7\.0 Too many authentication failures from your address \[auth-failed /,
    'an address that guesses');
ok($gate->wait_log(qr/NOQUEUE: reject: AUTH from \S+\[127\.0\.0\.1\]: 421 4\.7\.0 Too many/),
    'the log tells');
like(tls_client()->command("AUTH PLAIN $good"), qr/^235/,
    'where more are allowed it may try');
like(strict_auth(), qr/^235/, 'and who passes is forgiven');

$client = tls_client();
# Its auth process would go on serving us.
my (undef, @children) = process_tree($dovecot->{pid});
$dovecot->{stop}->();
kill 'KILL', @children;
$gate->wait_log(qr/auth service \S+: it closed the connection/);
like($client->command("AUTH PLAIN $good"), qr/^454 4\.7\.0/,
    'Dovecot is away');
my $ehlo;
($client, $ehlo) = tls_client();
like($ehlo, qr/^250-AUTH .*PLAIN/m, 'AUTH is offered all the same');
like($client->command("AUTH PLAIN $bad"), qr/^454 4\.7\.0/,
    'and cannot tell');
$dovecot->{start}->();
like(wait_for('Dovecot', sub {
	# Each a new session, which ends after too many errors.
	my $reply = tls_client()->command("AUTH PLAIN $good");
	return $reply =~ /^454/ ? 0 : $reply;
}), qr/^235/, 'Dovecot is back');

my ($explained) = ($gate->ctl('history'))[1];
my $log = $gate->log;
ok(index($_, 'wonder') < 0 && index($_, $good) < 0 && index($_, $bad) < 0,
    'no password is kept') for $log, $explained // '';
is($gate->stop, 0, 'ends well');
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
