#!/usr/bin/perl
# Clients by name (RFC 8601, 2.7.3): their address leads to a name, and that
# name back to the address.  Loopback clients are never looked up, so this runs
# in a network of its own, where lo has other addresses too.
use strict;
use warnings;
use Millgate::Test;

BEGIN {
	needs_root('a network of its own');
	if (!$ENV{MILLGATE_OWN_NETWORK}) {
		$ENV{MILLGATE_OWN_NETWORK} = 1;
		exec 'unshare', '--net', $^X, (map { "-I$_" } @INC), $0;
		die "unshare: $!";
	}
}
use Millgate::Peers;
use Test::More;

for my $command ('link set lo up', (map { "addr add 192.0.2.$_/32 dev lo" } 1 .. 7),
    (map { "-6 addr add 2001:db8::$_/128 dev lo nodad" } 1, 2)) {
	my ($status, $output) = run_command('ip', split / /, $command);
	die "ip $command: $output" if $status != 0;
}

# One record of each kind in order: what the reverse zone says, and of whom.
my $nibbles = '.0' x 23;
my $dns = start_dns('2.0.192.in-addr.arpa' => [ '1 PTR mx.sender.test.',
	'2 PTR liar.sender.test.', '4 PTR mx.dead.test.',
	'5 PTR liar.sender.test.', '5 PTR second.sender.test.',
	'6 PTR nowhere.sender.test.' ],
    '8.b.d.0.1.0.0.2.ip6.arpa' => [ "1$nibbles PTR six.sender.test." ],
    'sender.test' => [ 'mx A 192.0.2.1', 'liar A 192.0.2.99',
	'second A 192.0.2.5', 'six AAAA 2001:db8::1',
	'@ TXT "v=spf1 -all"' ]);
my $mailfromd = start_mailfromd(<<'END');
#pragma miltermacros connect client_name client_resolve
prog eom
do
  header_add("X-Client", getmacro("client_name") . " " .
      getmacro("client_resolve"))
done
END
# Of two zones nobody answers.
my $gate = start_millgate(text => <<"END");
gateways = 1
trusted_networks = { "198.51.100.0/24" }
dns_stubs = { $dns->{stubs}, "dead.test=127.0.0.1\@9" }
dns_forwarders = { "127.0.0.1\@9" }
dns_timeout = 1s
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@", "[::1]:\@PORT\@" }
	filters = { mailfromd, authres }
}
milter mailfromd { endpoint = { "$mailfromd->{endpoint}" } }
END

sub client {
	my ($address) = @_;
	return $gate->smtp(local => $address, peer =>
	    $address =~ /:/ ? '::1' : '127.0.0.1');
}

# address, name in the log and in Received, result, {client_resolve}
my @cases = (
	[ '192.0.2.1', 'mx.sender.test', 'pass', 'OK' ],
	[ '192.0.2.2', 'unknown', 'fail', 'FORGED' ],
	[ '192.0.2.3', 'unknown', 'permerror', 'FAIL' ],
	[ '192.0.2.4', 'unknown', 'temperror', 'TEMP' ],
	[ '192.0.2.5', 'second.sender.test', 'pass', 'OK' ],
	[ '192.0.2.6', 'unknown', 'fail', 'FORGED' ],
	[ '2001:db8::1', 'six.sender.test', 'pass', 'OK' ],
	[ '2001:db8::2', 'unknown', 'permerror', 'FAIL' ],
);
for my $case (@cases) {
	my ($address, $name, $result, $resolve) = @$case;
	my $client = client($address);
	my $reply = $client->deliver(data => message(Subject => $address));

	like $reply, qr/^250 /, "$address: taken";
	$client->close;
	my $mail = wait_for("mail from $address", sub {
		(grep { /^Subject: \Q$address\E\r?$/m }
		    mailbox("$gate->{dir}/mail"))[0];
	});
	my $shown = $address =~ /:/ ? "IPv6:$address" : $address;
	like $mail, qr/^Received: from \S+ \(\Q$name\E \[\Q$shown\E\]\)/m,
	    "$address: Received has $name";
	like $mail, qr/^Authentication-Results:[^:]*?\biprev=$result\s+policy\.iprev="?\Q$address\E"?;?/ms,
	    "$address: iprev=$result";
	like $mail, qr/^X-Client: \S+ $resolve\r?$/m,
	    "$address: a milter is told $resolve";
	ok $gate->wait_log(qr/: connect from \Q$name\E\[\Q$address\E\]/),
	    "$address: the log has $name";
}
is $gate->stop, 0, 'ends';
ok sanitizers_silent($gate->log), 'sanitizers are silent';
done_testing;
