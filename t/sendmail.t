#!/usr/bin/perl
# A real Sendmail asks our filters, as milters: what it relays is signed by our
# host so that dkimpy verifies it.
use strict;
use warnings;
use Millgate::Peers;
use Millgate::Sendmail;
use Millgate::Test;
use Test::More;

my ($key, $record) = dkim_key('rsa', 2048);
my $keys = write_file('keys',
    "rsa._domainkey.sender.test $record\n" =~ s/" "|"//gr);
my $sink = start_sink();
my $millgate = start_millgate(text => <<"END");
gateways = 1
route "*" { via = { "smtp:127.0.0.1:9" } }
dkim_sign example {
	domains = { sender.test }  selector = rsa  key = "$key"
	sign_for = all
}
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	filters = { example }
}
END
my ($socket) = glob "$millgate->{dir}/run/host-example.sock";
ok($socket, 'the signing host listens');
my $sendmail = start_sendmail(next_hop => $sink->{port},
    milters => [ "local:$socket" ]);

# Sends a message: (the reply, what dkimpy says of the one relayed).
my $number = 0;
sub relayed {
	my ($text, $from) = @_;
	my $mark = 'X-Number: ' . $number++;
	my $reply = new_smtp(port => $sendmail->{port})->deliver(
	    data => "$mark\r\n$text", from => $from // 'alice@sender.test',
	    to => 'bob@rcpt.test');
	my $mail = wait_for('the message', sub {
		(grep { /^$mark\r$/m } $sink->messages)[0];
	});

	$mail =~ s/^\.\././mg;
	return ($reply, dkim_python($mail, 'verify', $keys));
}

my %cases = (
	'a plain message' => message(),
	'no body' => message(body => ''),
	'folded fields' => message(Subject => "one\r\n two\r\n\tthree"),
	'no space behind the colon' => message() =~ s/^Subject: /Subject:/mr,
	'two spaces behind it' => message() =~ s/^Subject: /Subject:  /mr,
	'a tab behind it' => message() =~ s/^Subject: /Subject:\t/mr,
	'lines that begin with dots' => message(body => ".\r\n..x\r\n"),
	'more than a packet of body' =>
	    message(body => join '', map { "line $_\r\n" } 1 .. 20000),
);
for my $name (sort keys %cases) {
	my ($reply, $verdict) = relayed($cases{$name});

	like($reply, qr/^250 /, "$name: Sendmail takes it");
	like($verdict, qr/^pass /, "$name: relayed with our signature");
}

# Others' mail is not signed, and passes.
my ($reply, $verdict) = relayed(message(From => 'mallory@other.test'),
    'mallory@other.test');
like($reply, qr/^250 /, 'a message of another domain passes');
unlike($verdict, qr/^pass /, 'unsigned');

$sendmail->{stop}->();
is($millgate->stop, 0, 'Millgate ends well');
done_testing;
