# Mail into a real Dovecot by LMTP: delivered, over quota, away and back.

use strict;
use warnings;

use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $through = free_port();
my $dovecot = start_dovecot(quota => '20K');
my $gate = start_millgate(text => <<"END");
relay_domains = { example.test }
relay { minimal_backoff = 1s  maximal_backoff = 1s  connection_idle = 1s }
route "example.test" { via = { "lmtp:unix:$dovecot->{socket}" } }
route "tcp.example.test" { via = { "lmtp:127.0.0.1:$dovecot->{port}" } }
route "sender.test" { via = { "lmtp:127.0.0.1:$dovecot->{port}" } }
listener smtp { address = { "127.0.0.1:\@PORT\@" } }
listener through {
	address = { "127.0.0.1:$through" }
	cut_through = yes
}
END

sub swaks {
	my (@arguments) = @_;
	return run_command('swaks', '--server', '127.0.0.1', '--port',
	    $gate->{port}, '--helo', 'client.sender.test', '--from',
	    'alice@sender.test', @arguments);
}

# Waits until a user has that many messages; the newest.
sub arrived {
	my ($user, $count) = @_;
	my @messages;

	wait_for("$count messages for $user", sub {
		return (@messages = mailbox($dovecot, $user)) >= $count;
	});
	return $messages[-1] =~ s/\r\n/\n/gr;
}

sub bounces {
	my $count = () = $gate->log =~ /sender non-delivery notification/g;
	return $count;
}

subtest 'one message, several recipients' => sub {
	my ($status, $output) = swaks('--to', join(',',
	    'bob@example.test', 'carol@example.test', 'dan+box@example.test',
	    'erin@tcp.example.test'), '--body', "Hello\n.\n..x\nend",
	    '--header', 'Subject: for many');

	is $status, 0, 'swaks' or diag $output;
	for my $user (qw(bob carol erin)) {
		my $text = arrived($user, 1);

		like $text, qr/^Return-Path: <alice\@sender\.test>$/m,
		    "$user: envelope sender";
		like $text, qr/^Subject: for many$/m, "$user: header";
		like $text, qr/\n\nHello\n\.\n\.\.x\nend\n/, "$user: body";
		like $text, qr/^Received: from client\.sender\.test /m,
		    "$user: our Received";
	}
	wait_for('log', sub {
		my $sent = () = $gate->log =~ /status=sent/g;
		return $sent == 4;
	});
	$gate->logs(qr/to=<bob\@example\.test>,\ relay=[^ ]+lmtp\.sock[^ ]*,
	    .*dsn=2\.0\.0,\ status=sent\ \(.*Saved/x, 'by the UNIX socket');
	$gate->logs(qr/to=<erin\@tcp\.example\.test>,\ relay=127\.0\.0\.1
	    \S*,.*dsn=2\.0\.0,\ status=sent/x, 'by TCP');
};

subtest 'over quota: the sender is told' => sub {
	my $smtp = $gate->smtp;
	my ($bounce, $boundary, @parts);
	my $big = message(Subject => 'too big') . ('x' x 70 . "\r\n") x 400;
	like $smtp->deliver(data => $big, from => 'bounced@sender.test',
	    to => [ 'full@tcp.example.test', 'too@tcp.example.test' ]),
	    qr/^250 /, 'queued';
	$bounce = arrived('bounced', 1);
	like $bounce, qr/^Return-Path: <>$/m, 'from the null sender';
	like $bounce, qr/^From: .*<?MAILER-DAEMON\@mx\.example\.test/mi,
	    'From';
	like $bounce, qr/^To: <?bounced\@sender\.test>?$/m, 'To';
	like $bounce, qr/^Auto-Submitted: auto-replied$/m, 'Auto-Submitted';
	like $bounce, qr{^Content-Type: multipart/report;\s+report-type=delivery-}m, 'a report (RFC 3464)';
	($boundary) = $bounce =~ /boundary="?([^"\s;]+)"?/;
	@parts = split /^--\Q$boundary\E(?:--)?\n/m, $bounce, -1;
	is scalar(@parts), 5, 'header, three parts, end';
	like $parts[1], qr{\A(?:Content-Type: text/plain|\n)}, 'text';
	like $parts[1], qr/full\@tcp\.example\.test/, 'that names who';
	like $parts[2], qr{\AContent-Type: message/delivery-status\n},
	    'status';
	like $parts[2], qr/^Reporting-MTA: dns; ?mx\.example\.test$/m, $_
	    for 'Reporting-MTA';
	for my $user (qw(full too)) {
		like $parts[2], qr/^Final-Recipient:\ rfc822;\ ?$user\@.*\n
		    Action:\ failed\nStatus:\ 5\.2\.2\n/mx,
		    "$user: action and status";
	}
	like $parts[2], qr/^Diagnostic-Code: smtp; ?55\d 5\.2\.2 .*quota/mi,
	    'what Dovecot said';
	like $parts[3], qr{\AContent-Type: text/rfc822-headers\n},
	    'the message';
	like $parts[3], qr/^Subject: too big$/m, 'its header';
	unlike $parts[3], qr/xxxxx/, 'not its body';
	is bounces(), 1, 'one notification for both';
};

subtest 'a bounce that cannot be delivered ends' => sub {
	my $smtp = $gate->smtp;
	my $before = bounces();

	like $smtp->deliver(from => '', to => 'full@example.test',
	    data => message() . ('x' x 70 . "\r\n") x 400), qr/^250 /,
	    'from the null sender';
	$gate->wait_log(qr/undeliverable notification dropped/);
	is bounces(), $before, 'no other notification';
};

subtest 'cut-through: the client hears Dovecot' => sub {
	my $smtp = new_smtp(port => $through);
	my $before = bounces();
	my $big = message() . ('x' x 70 . "\r\n") x 400;

	like $smtp->deliver(to => 'greta@example.test'),
	    qr/^250 2\.0\.0 Ok: delivered as /, 'delivered';
	is scalar(mailbox($dovecot, 'greta')), 1, 'before the answer';
	like $smtp->deliver(to => [ 'greta@example.test',
	    'harry@tcp.example.test' ]), qr/^250 2\.0\.0 Ok: delivered as /,
	    'for two, by two ways';
	is scalar(mailbox($dovecot, $_->[0])), $_->[1], "$_->[0] has it"
	    for [ greta => 2 ], [ harry => 1 ];
	like $smtp->deliver(to => 'full@example.test', data => $big),
	    qr/^55\d 5\.2\.2 .*quota/i, 'over quota';
	is bounces(), $before, 'without a notification';
	like $smtp->deliver(to => 'greta@example.test'), qr/^250 /,
	    'the session goes on';
};

subtest 'Dovecot stopped' => sub {
	my $smtp = $gate->smtp;
	my $cut = new_smtp(port => $through);
	my ($reply, $id);

	$dovecot->{stop}->();
	$reply = $smtp->deliver(to => 'ida@example.test');
	like $reply, qr/^250 2\.0\.0 Ok: queued/, 'mail is queued';
	($id) = $reply =~ /queued as (\w+)/;
	$gate->wait_log(qr/$id: to=<ida\@example\.test>.*status=deferred/);
	like $cut->deliver(to => 'ida@tcp.example.test'),
	    qr/^250 2\.0\.0 Ok: queued|^45\d 4\./, 'cut-through: queued';
	$gate->wait_log(qr/to=<ida\@tcp\.example\.test>.*status=deferred/);
	is scalar(mailbox($dovecot, 'ida')), 0, 'not delivered';

	$dovecot->{start}->();
	arrived('ida', 2);
	pass 'delivered';
	$gate->logs(qr/$id: to=<ida\@example\.test>.*status=sent/, 'log');
	$gate->wait_log(qr/$id: removed/);
};

is $gate->stop, 0, 'ends well';
done_testing;
