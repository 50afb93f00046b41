#!/usr/bin/perl
# Which recipients there are: in a directory (OpenLDAP), and as the next server
# (Dovecot) says, for our own gateway and for a real Postfix.

use strict;
use warnings;

use IO::Socket::INET;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $slapd = start_slapd(bob => { mail => 'bob@example.test' },
    carol => { mail => 'carol@example.test' },
    frank => { mail => 'frank@people.test' });

sub directory {
	my ($name, $port, $more) = @_;
	return write_file($name, <<"END" . ($more // ''), 0644);
server 127.0.0.1:$port
base dc=example,dc=test
filter (&(objectClass=inetOrgPerson)(mail=%s))
timeout 1s
END
}

sub configuration {
	my ($path) = @_;
	return <<"END";
gateways = 1
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	recipients = "ldap:$path"
}
END
}

sub rcpt {
	my ($server, @recipients) = @_;
	my $smtp = $server->smtp;
	my @replies;

	$smtp->command('EHLO client.test');
	$smtp->command('MAIL FROM:<alice@sender.test>');
	push @replies, $smtp->command("RCPT TO:<$_>") for @recipients;
	$smtp->close;
	return wantarray ? @replies : $replies[0];
}

subtest 'recipients in a directory' => sub {
	my $path = directory('directory', $slapd->{port},
	    "user cn=reader,dc=example,dc=test\npassword secret\n");
	my $server = start_millgate(text => configuration($path));

	my @replies = rcpt($server, 'bob@example.test', 'Carol@EXAMPLE.test',
	    'nobody@example.test', '*@example.test', 'b*@example.test',
	    'x)(mail=bob@example.test');
	like $replies[0], qr/^250 /, 'one that is there';
	like $replies[1], qr/^250 /, 'in other capitals';
	like $replies[2], qr/^550 5\.1\.1 /, 'one that is not';
	like $replies[$_], qr/^55\d 5\.1\.[13] /, 'what means something in a filter'
	    for 3 .. 5;

	my @sessions = map { $server->smtp } 1 .. 40;
	for (@sessions) {
		$_->command('EHLO client.test');
		$_->command('MAIL FROM:<alice@sender.test>');
	}
	$_->send("RCPT TO:<bob\@example.test>\r\n") for @sessions;
	is scalar(grep { $_->reply =~ /^250/ } @sessions), 40,
	    'many at a time';
	$_->close for @sessions;

	$slapd->{stop}->();
	like rcpt($server, 'bob@example.test'), qr/^45\d 4\./,
	    'without the directory nothing is known';
	like rcpt($server, 'nobody@example.test'), qr/^45\d 4\./,
	    'nor who is not there';
	$server->wait_log(qr/LDAP: base=dc=example,dc=test: no answer: /);
	$slapd->{start}->();
	wait_for('the directory', sub {
		rcpt($server, 'bob@example.test') =~ /^250/ });
	pass 'it is asked again when it is back';
	$server->wait_log(qr/LDAP: base=dc=example,dc=test: answers again/);
	is $server->stop, 0, 'ends';
	ok sanitizers_silent($server->log), 'sanitizers are silent';
};

subtest 'a directory that refuses us' => sub {
	my $server = start_millgate(text => configuration(
	    directory('wrong', $slapd->{port},
	    "user cn=reader,dc=example,dc=test\npassword wrong\n")));

	like rcpt($server, 'bob@example.test'), qr/^45\d 4\./,
	    'a wrong password says nothing about recipients';
	$server->wait_log(qr/no answer: log in: Invalid credentials/);
	is $server->stop, 0, 'ends';
	ok sanitizers_silent($server->log), 'sanitizers are silent';
};

subtest 'several servers' => sub {
	my $silent = IO::Socket::INET->new(Listen => 50,
	    LocalAddr => '127.0.0.1') or die "socket: $!";
	my $path = directory('several', $slapd->{port},
	    "user cn=reader,dc=example,dc=test\npassword secret\n");

	write_file('several', 'server 127.0.0.1:' . $silent->sockport .
	    "\n" . read_file($path), 0644);
	my $server = start_millgate(text => configuration($path));
	like rcpt($server, 'bob@example.test'), qr/^250 /,
	    'one that is silent does not hide the others';
	like rcpt($server, 'nobody@example.test'), qr/^550 5\.1\.1 /,
	    'nor later';
	is $server->stop, 0, 'ends';
	ok sanitizers_silent($server->log), 'sanitizers are silent';
};

subtest 'a directory by TLS' => sub {
	my $dir = test_dir();
	my ($status, $output) = run_command('openssl', 'req', '-x509',
	    '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj',
	    '/CN=ldap.example.test', '-addext',
	    'subjectAltName=DNS:ldap.example.test', '-keyout', "$dir/ldap.key",
	    '-out', "$dir/ldap.crt");
	die "openssl: $output" if $status != 0;
	my $other = start_slapd(-tls => [ "$dir/ldap.crt", "$dir/ldap.key" ],
	    dave => { mail => 'dave@example.test' });
	my $login = "user cn=reader,dc=example,dc=test\npassword secret\n";
	local $ENV{SSL_CERT_FILE} = "$dir/ldap.crt";
	my $server = start_millgate(text => configuration(directory('tls',
	    $other->{port}, $login . "tls ldap.example.test\n")));

	like rcpt($server, 'dave@example.test'), qr/^250 /, 'one that is there';
	like rcpt($server, 'bob@example.test'), qr/^550 5\.1\.1 /,
	    'one that is not';
	is $server->stop, 0, 'ends';
	ok sanitizers_silent($server->log), 'sanitizers are silent';

	$server = start_millgate(text => configuration(directory('other',
	    $other->{port}, $login . "tls other.example.test\n")));
	like rcpt($server, 'dave@example.test'), qr/^45\d 4\./,
	    'a server of another name is not believed';
	$server->wait_log(qr/no answer: TLS: /);
	is $server->stop, 0, 'ends';
};

# Our own gateway and a Postfix ask the same service.
my $dovecot = start_dovecot(strict => 1, users => { bob => 'x',
    carol => 'x' });
my $policy_port = free_port();
my $gateway = start_millgate(text => <<"END");
gateways = 1
relay_domains = { example.test, people.test }
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	filters = { ahead, people }
}
recipient_check ahead {
	domains = { example.test }
	recipients = { "alias\@example.test" }
	call_ahead = "lmtp:unix:$dovecot->{socket}"
	cache_no = 1s
}
recipient_check people {
	domains = { people.test }
	recipients = "ldap:@{[ directory('people', $slapd->{port},
	    "user cn=reader,dc=example,dc=test\npassword secret\n") ]}"
}
policy { listen = { "127.0.0.1:$policy_port" } services = { ahead } }
END
my $postfix = start_postfix(main => {
    mydestination => 'example.test', local_recipient_maps => '',
    local_transport => 'discard', mynetworks => '192.0.2.0/24',
    smtpd_relay_restrictions => 'reject_unauth_destination',
    smtpd_recipient_restrictions =>
	"check_policy_service inet:127.0.0.1:$policy_port" });

sub rcpt_postfix {
	my $smtp = new_smtp(port => $postfix->{port});
	my $reply = $smtp->deliver(to => $_[0]);
	$smtp->close;
	return $reply;
}

subtest 'call-ahead to Dovecot' => sub {
	my @replies = rcpt($gateway, map { "$_\@example.test" }
	    qw(bob nobody alias carol BOB), '"no body"');
	like $replies[0], qr/^250 /, 'one that Dovecot knows';
	like $replies[1], qr/^550 5\.1\.1 No such recipient \[recipient-unknown /,
	    'one that it does not';
	like $replies[2], qr/^250 /, 'one that a table knows';
	like $replies[3], qr/^250 /, 'another';
	like $replies[5], qr/^550 5\.1\.1 /, 'a blank hides nobody from it';
	$gateway->wait_log(qr/policy: .*, to=<nobody\@example\.test>, state=RCPT, action=reject, by=ahead, reason=recipient-unknown \(550 5\.1\.1 /);

	like rcpt_postfix('bob@example.test'), qr/^250 /,
	    'Postfix takes who is there';
	like rcpt_postfix('nobody2@example.test'),
	    qr/^550 5\.1\.1 .*No such recipient/s, 'and no others';

	$dovecot->{stop}->();
	like rcpt($gateway, 'bob@example.test'), qr/^250 /,
	    'without Dovecot, who is known is known still';
	my ($reply) = rcpt($gateway, 'dave@example.test');
	like $reply, qr/^450 4\.4\.1 Cannot tell whether the recipient exists/,
	    'others are put off';
	like rcpt_postfix('erin@example.test'), qr/^450 4\.4\.1 /,
	    'by Postfix, too';
	$dovecot->{start}->();
	wait_for('Dovecot to be asked', sub {
		rcpt($gateway, 'dave@example.test') =~ /^550 5\.1\.1 / });
	pass 'it is asked again when it is back';
};

subtest 'a directory, among the filters' => sub {
	my @replies = rcpt($gateway, map { "$_\@people.test" }
	    qw(frank nobody));
	like $replies[0], qr/^250 /, 'one that is there';
	like $replies[1], qr/^550 5\.1\.1 No such recipient \[user-unknown /,
	    'one that is not';
	$slapd->{stop}->();
	like rcpt($gateway, 'frank@people.test'),
	    qr/^450 4\.4\.3 Cannot tell whether the recipient exists, try later \[recipient-check /,
	    'without the directory it is put off';
};

is $gateway->stop, 0, 'ends';
ok sanitizers_silent($gateway->log), 'sanitizers are silent';

done_testing;
