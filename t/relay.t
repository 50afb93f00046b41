# Delivery: to a real Postfix, by MX records, and to next hops with every fault.

use strict;
use warnings;

use IO::Socket::INET;
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(time);

my $cert = test_dir() . '/postfix';
my ($status, $output) = run_command('openssl', 'req', '-x509', '-newkey',
    'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', 2,
    '-subj', '/CN=postfix.example.test', '-keyout', "$cert.key", '-out',
    "$cert.pem");
die $output if $status != 0;

my $postfix = start_postfix(main => {
	relay_domains => 'example.test mx.test implicit.test',
	relay_transport => 'discard:', default_transport => 'discard:',
	relay_recipient_maps => 'inline:{ bob@example.test=ok ' .
	    'carol@example.test=ok bob@mx.test=ok bob@implicit.test=ok }',
	smtpd_tls_security_level => 'may', smtpd_tls_loglevel => 1,
	smtpd_tls_cert_file => "$cert.pem", smtpd_tls_key_file => "$cert.key",
	smtpd_recipient_restrictions =>
	    'reject_unlisted_recipient, permit_mynetworks, reject',
});

# MX hosts on 127.0.0.2 are dead: nothing listens there.
my $dns = start_dns(
	'mx.test' => [ '@ MX 10 dead', '@ MX 20 live', 'dead A 127.0.0.2',
	    'live A 127.0.0.1' ],
	'alldead.test' => [ '@ MX 10 dead', 'dead A 127.0.0.2' ],
	'null.test' => [ '@ MX 0 .' ],
	'implicit.test' => [ '@ A 127.0.0.1' ],
	'nohost.test' => [ '@ MX 10 nowhere' ],
	'self.test' => [ '@ MX 10 mx.example.test.' ],
	'test' => []);

# Accepts connections, by the kernel alone, and never says a word.
my $silent = IO::Socket::INET->new(Listen => 200, LocalAddr => '127.0.0.1',
    Proto => 'tcp') or die;

# A fault, the status that it leads to, and whether the message may be taken
# more than once, since the next hop kept it but could not say so.
my @faults = (
	[ 'CONNECT', '421 4.3.2 busy', 'deferred' ],
	[ 'CONNECT', 'close', 'deferred' ],
	[ 'EHLO', '421 4.3.2 busy', 'deferred' ],
	[ 'EHLO', '500 5.5.1 what', 'sent' ],
	[ 'EHLO', '250-sink\r\n250-SIZE x\r\n250 =', 'sent' ],
	[ 'MAIL', '451 4.3.0 later', 'deferred' ],
	[ 'MAIL', '550 5.7.1 no', 'bounced' ],
	[ 'MAIL', 'close', 'deferred' ],
	[ 'RCPT', '450 4.2.0 greylisted', 'deferred' ],
	[ 'RCPT', '550 5.1.1 unknown', 'bounced' ],
	[ 'DATA', '451 4.3.0 later', 'deferred' ],
	[ 'DATA', '554 5.5.0 no', 'bounced' ],
	[ 'DATA', 'close', 'deferred' ],
	[ 'END', '452 4.3.1 full', 'deferred' ],
	[ 'END', '552 5.2.2 full', 'bounced' ],
	[ 'END', 'close', 'deferred' ],
	[ 'END', 'hello', 'deferred' ],
	[ 'END', '250-' . 'x' x 100000, 'deferred', 1 ],
	[ 'QUIT', 'close', 'sent' ],
);
my @sinks = map { start_sink(replies => { $_->[0] => $_->[1] }) } @faults;
my $fault_routes = join '', map {
	"route \"f$_.test\" { via = { \"smtp:[127.0.0.1]:$sinks[$_]{port}\" } }\n"
} 0 .. $#faults;
my $clear = start_sink();
my $injector = start_sink(replies => {
	EHLO => '250-sink\r\n250-STARTTLS\r\n250 SIZE 100',
	STAR => '220 go\r\n250-fake\r\n250 PIPELINING' });
my $dead = free_port();

my $gate = start_millgate(text => <<"END");
dns_stubs = { $dns->{stubs} }
dns_timeout = 2s
relay {
	minimal_backoff = 400ms
	maximal_backoff = 1s
	greeting_timeout = 4s
	connect_timeout = 4s
}
route "example.test" {
	via = { "smtp:[127.0.0.1]:$postfix->{port}" }
	connections = 1
}
route "sender.test" { via = { "maildir:\@DIR\@/alice" } }
route "mx.test" { via = { "mx:$postfix->{port}" } }
route "alldead.test" { via = { "mx:$postfix->{port}" } }
route "implicit.test" { via = { "mx:$postfix->{port}" } }
route "silent.test" { via = { "smtp:[127.0.0.1]:@{[ $silent->sockport ]}" } }
route "clear.test" { via = { "smtp:[127.0.0.1]:$clear->{port}" } }
route "require.test" {
	via = { "smtp:[127.0.0.1]:$clear->{port}" }
	tls = require
}
route "verify.test" {
	via = { "smtp:[127.0.0.1]:$postfix->{port}" }
	tls = verify
}
route "inject.test" { via = { "smtp:[127.0.0.1]:$injector->{port}" } }
route "back.test" { via = { "smtp:[127.0.0.1]:$dead" } }
$fault_routes
END

my $smtp = $gate->smtp(timeout => 30);
sub deliver {
	my ($to, %options) = @_;
	my $reply = $smtp->deliver(to => $to, %options);

	my ($id) = $reply =~ /^250 2\.0\.0 Ok: queued as (\w+)/ or
	    diag "$to: $reply";
	return $id // 'none';
}

# The status of a message's first delivery, with what the log says of it.
sub outcome {
	my ($id, $gateway) = @_;
	return ($gateway // $gate)->wait_log(
	    qr/$id: to=<[^>]*>, (.*status=\w+ .*)/);
}

# Bounces that the sender got, of a message.
sub bounce {
	my ($id) = @_;
	return wait_for("bounce of $id", sub {
		my ($bounce) = grep { /X-Millgate-Queue-ID: $id/ }
		    mailbox("$gate->{dir}/alice");
		return $bounce;
	});
}

# Waits until Postfix's log matches.
sub postfix_log {
	my ($pattern) = @_;
	wait_for("Postfix to log $pattern", sub {
		read_file($postfix->{log}) =~ $pattern;
	});
}

subtest 'Postfix takes it, under TLS' => sub {
	my $id = deliver('bob@example.test');

	like outcome($id), qr/^relay=\S+, .*dsn=2\.0\.0, status=sent \(250 /,
	    'sent';
	postfix_log(qr/TLS connection established from .*TLSv1\.3/);
	pass 'STARTTLS was used';
	postfix_log(qr/to=<bob\@example\.test>, relay=none, .*status=sent/);
	pass 'arrived';
	$gate->wait_log(qr/$id: removed/);

	$id = deliver('nobody@example.test');
	like outcome($id), qr/dsn=5\.1\.1, status=bounced \(host .* said: 550 /,
	    'an unknown user';
	my $bounce = bounce($id);
	like $bounce, qr/^Status: 5\.1\.1\r?$/m, 'comes back';
	like $bounce, qr/^Remote-MTA: dns; ?\S+\r?$/m, 'and says who refused';

	$id = deliver([ 'bob@example.test', 'nobody@example.test' ]);
	$gate->wait_log(qr/$id: to=<bob\@example\.test>.*status=sent/);
	$gate->wait_log(qr/$id: to=<nobody\@example\.test>.*status=bounced/);
	like bounce($id), qr/^Final-Recipient: rfc822; ?nobody\@example\.test/m,
	    'one of two is refused: the bounce names it';
	unlike bounce($id), qr/^Final-Recipient: .*bob\@/m, 'alone';
};

subtest 'connections are used again' => sub {
	my $before = () = read_file($postfix->{log}) =~ /: connect from/g;
	my @ids = map { deliver('bob@example.test') } 1 .. 30;
	my $connects;

	outcome($_) for @ids;
	$connects = () = read_file($postfix->{log}) =~ /: connect from/g;
	cmp_ok $connects - $before, '<=', 3,
	    '30 messages take ' . ($connects - $before) . ' connections';
};

subtest 'MX records' => sub {
	my %want = (
		'bob@mx.test' => qr/live\.mx\.test.*status=sent/,
		'bob@implicit.test' => qr/implicit\.test.*status=sent/,
		'bob@alldead.test' => qr/dsn=4\.\d\.\d, status=deferred/,
		'bob@null.test' => qr/dsn=5\.1\.10, status=bounced/,
		'bob@nohost.test' => qr/dsn=5\.4\.4, status=bounced/,
		'bob@missing.test' => qr/dsn=5\.1\.2, status=bounced/,
		'bob@self.test' => qr/dsn=5\.4\.6, status=bounced/,
		'bob@[127.0.0.1]' => qr/status=(?:deferred|bounced)/,
	);
	my %ids = map { $_ => deliver($_) } sort keys %want;

	for my $to (sort keys %want) {
		like outcome($ids{$to}), $want{$to}, $to;
	}
	like bounce($ids{'bob@null.test'}), qr/^Status: 5\.1\.10\r?$/m,
	    'the bounce tells of the null MX';
};

subtest 'TLS that is required' => sub {
	my %ids = map { $_ => deliver("bob\@$_") }
	    qw(require.test verify.test inject.test);

	like outcome($ids{'require.test'}), qr/dsn=4\.7\.\d, status=deferred/,
	    'not offered: deferred';
	like outcome($ids{'verify.test'}), qr/dsn=4\.7\.\d, status=deferred/,
	    'a certificate that nobody signed: deferred';
	like outcome($ids{'inject.test'}), qr/status=deferred/,
	    'clear text behind the reply to STARTTLS: deferred';
	is scalar(grep { /^MAIL/ } $_->commands), 0, 'nothing was sent'
	    for $clear, $injector;
};

subtest 'faults of the next hop' => sub {
	my @ids = map { deliver("bob\@f$_.test") } 0 .. $#faults;

	for my $i (0 .. $#faults) {
		my ($verb, $reply, $want) = @{ $faults[$i] };

		like outcome($ids[$i]), qr/status=$want\b/,
		    "$verb: " . substr($reply, 0, 30) . ": $want";
	}
	# They are well again: what was deferred arrives.
	$_->replies for @sinks;
	for my $i (0 .. $#faults) {
		my ($verb, $reply, $want, $again) = @{ $faults[$i] };
		my $count = $want eq 'bounced' ? 0 : 1;

		if ($want eq 'bounced') {
			like bounce($ids[$i]),
			    qr/^Final-Recipient: rfc822;.*bob\@f$i\.test/m,
			    "f$i: a bounce";
		} else {
			$gate->wait_log(qr/$ids[$i]: to=.*status=sent/);
		}
		$gate->wait_log(qr/$ids[$i]: removed/);
		my $got = () = $sinks[$i]->messages;
		cmp_ok $got, $again ? '>=' : '==', $count,
		    "f$i: delivered" or diag "$verb: $reply";
	}
};

subtest 'a next hop that comes back' => sub {
	my $id = deliver('bob@back.test');
	my $sink;

	like outcome($id), qr/dsn=4\.4\.1, status=deferred \(.*refused/,
	    'deferred';
	wait_for('a second attempt', sub {
		my $tries = () = $gate->log =~ /$id: to=.*status=deferred/g;
		return $tries >= 2;
	});
	$sink = start_sink(port => $dead);
	$gate->wait_log(qr/$id: to=.*status=sent/);
	is scalar($sink->messages), 1, 'delivered';
};

subtest 'a dead destination delays no other' => sub {
	my $start = time;
	my @good;

	for (1 .. 100) {
		deliver('bob@silent.test');
		push @good, deliver('bob@clear.test');
	}
	wait_for('the live destination', sub {
		my %sent = map { $_ => 1 }
		    $gate->log =~ /(\w+): to=<bob\@clear\.test>.*status=sent/g;
		return !grep { !$sent{$_} } @good;
	});
	my $took = time - $start;
	cmp_ok $took, '<', 15, "100 messages in $took s";
	unlike $gate->log, qr/to=<bob\@silent\.test>.*status=sent/,
	    'while the other one is silent';
	is scalar(grep { /^MAIL/ } $clear->commands), 100, 'each once';
	$gate->wait_log(qr/to=<bob\@silent\.test>.*status=deferred/);
};

subtest 'notifications that were asked for' => sub {
	my ($relayed, $never, $told, $never_told);
	my $session = $gate->smtp;
	my $send = sub {
		my ($to, $notify) = @_;

		$session->command('EHLO client.test');
		$session->command('MAIL FROM:<alice@sender.test> ENVID=env1');
		$session->command("RCPT TO:<$to> NOTIFY=$notify");
		$session->command('DATA');
		return ($session->command(message() . '.') =~
		    /queued as (\w+)/)[0];
	};

	$told = $send->('bob@clear.test', 'SUCCESS');
	$relayed = $send->('carol@example.test', 'SUCCESS');
	$never = $send->('nobody@example.test', 'NEVER');
	$never_told = $send->('bob@null.test', 'SUCCESS,DELAY');
	my $report = bounce($told);
	like $report, qr/^Action: relayed\r?$/m, 'SUCCESS: relayed';
	like $report, qr/^Original-Envelope-Id: env1\r?$/m, 'ENVID';
	like outcome($relayed), qr/status=sent/,
	    'a next hop that has DSN';
	postfix_log(qr/sender delivery status notification/);
	pass 'tells itself';
	like outcome($_), qr/status=bounced/, 'refused' for $never,
	    $never_told;
	$gate->wait_log(qr/$_: removed/) for $relayed, $never, $never_told;
	is scalar(grep {
	    /Queue-ID: (?:$relayed|$never|$never_told)/
	    } mailbox("$gate->{dir}/alice")), 0,
	    'no notification that nobody asked for';
};

subtest 'messages expire' => sub {
	my $other = start_millgate(text => <<"END");
relay { minimal_backoff = 200ms maximal_backoff = 300ms expire = 1s }
route "sender.test" { via = { "maildir:\@DIR\@/alice" } }
route "*" { via = { "smtp:[127.0.0.1]:1" } }
END
	my ($id) = $other->smtp->deliver =~ /queued as (\w+)/;

	like outcome($id, $other), qr/status=deferred/, 'deferred first';
	$other->wait_log(qr/$id: to=<bob\@example\.test>.*status=bounced/);
	wait_for('bounce', sub { mailbox("$other->{dir}/alice") });
	my ($bounce) = mailbox("$other->{dir}/alice");
	like $bounce, qr/^Action: failed\r?\nStatus: 4\.4\.\d\r?$/m,
	    'then returned';
	is $other->stop, 0, 'ends well';
};

is $gate->stop, 0, 'ends well';
done_testing;
