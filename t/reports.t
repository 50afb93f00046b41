#!/usr/bin/perl
# DMARC aggregate reports (RFC 9990): what comes in is counted in the store, on
# both back ends.

use strict;
use warnings;

use IO::Socket::UNIX;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

# All clients come from 127.0.0.1.
my $good = '@ TXT "v=spf1 ip4:127.0.0.1 -all"';
my $bad = '@ TXT "v=spf1 -all"';
my $dns = start_dns(
	'own.test' => [ $good, '_dmarc TXT "v=DMARC1; p=reject; adkim=s; ' .
	    'rua=mailto:dmarc@own.test"' ],
	'forged.test' => [ $bad, '_dmarc TXT "v=DMARC1; p=reject; ' .
	    'rua=mailto:dmarc@forged.test"' ],
	'trial.test' => [ $bad, '_dmarc TXT "v=DMARC1; p=quarantine; t=y; ' .
	    'rua=mailto:dmarc@trial.test"' ],
	'silent.test' => [ $good, '_dmarc TXT "v=DMARC1; p=reject"' ],
);

sub configuration {
	my ($more) = @_;
	return <<"END" . ($more // '');
gateways = 1
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs} }
dns_timeout = 2s
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { spf, dkim, dmarc, authres }
}
dmarc_report { email = "reports\@example.test" interval = 7d }
END
}

sub attempt {
	my ($server, $domain, $to) = @_;
	my $smtp = $server->smtp;
	my $reply = $smtp->deliver(from => "alice\@$domain",
	    to => $to // 'bob@example.test',
	    data => message(From => "alice\@$domain"));

	$smtp->close;
	return $reply;
}

# What the policy process answers to one of our own processes.
sub ask {
	my ($server, %attributes) = @_;
	my $socket = IO::Socket::UNIX->new(Peer =>
	    "$server->{dir}/run/policy.sock") or die "policy.sock: $!";

	print $socket map({ "$_=$attributes{$_}\n" } sort keys %attributes),
	    "\n";
	$socket->flush;
	my $answer = '';
	while (my $line = <$socket>) {
		last if $line eq "\n";
		$answer .= $line;
	}
	return $answer;
}

sub ask_reports {
	my ($server, $verb, %more) = @_;
	return ask($server, request => 'millgate_report', report_verb => $verb,
	    %more);
}

# The rows of a domain's report: "COUNT ROW", tabs as |.
sub claim {
	my ($server, $domain) = @_;
	my (undef, $line, $head, @rows) = split /\n/, ask_reports($server,
	    'claim', report_domain => $domain, report_id => 'now');

	s/\t/|/g for grep { defined } $line, $head, @rows;
	return ($line, $head, sort @rows);
}

sub collected {
	my ($server, $name) = @_;

	like attempt($server, 'own.test'), qr/^250 /, "$name: mail that passes"
	    for 1 .. 3;
	like attempt($server, 'sub.own.test'), qr/^550 5\.7\.1 /,
	    "$name: of a subdomain without SPF";
	like attempt($server, 'forged.test'), qr/^550 5\.7\.1/,
	    "$name: mail that fails" for 1 .. 2;
	like attempt($server, 'trial.test'), qr/^250 /, "$name: on trial";
	like attempt($server, 'silent.test'), qr/^250 /,
	    "$name: no report wanted";
	like attempt($server, 'own.test', 'reports@example.test'), qr/^250 /,
	    "$name: mail for us, who report";

	my $list;
	wait_for('the tallies', sub {
		$list = ask_reports($server, 'list');
		return $list =~ /own\.test/ && $list =~ /forged/ &&
		    $list =~ /trial/;
	});
	like $list, qr/^action=OK\n(?:\S+\t\d+\t\d+\n){3}$/,
	    "$name: three reports are due one day";

	my (@own, @forged, @trial);
	@own = claim($server, 'own.test');
	like $own[0], qr/^own\.test\|\d+\|\d+\|0$/, "$name: claimed";
	is $own[1], 'treewalk|reject|||s|r||n|mailto:dmarc@own.test',
	    "$name: the policy";
	is_deeply [ @own[2 .. $#own] ], [
	    '1|127.0.0.1|reject|fail|fail|||sub.own.test|sub.own.test|' .
	    'sub.own.test|mfrom|none',
	    '3|127.0.0.1|pass|fail|pass|||own.test|own.test|own.test|mfrom|' .
	    'pass' ], "$name: equal messages are counted";
	@forged = claim($server, 'forged.test');
	is $forged[2], '2|127.0.0.1|reject|fail|fail|||forged.test|' .
	    'forged.test|forged.test|mfrom|fail', "$name: refused mail, too";
	@trial = claim($server, 'trial.test');
	is $trial[2], '1|127.0.0.1|none|fail|fail|policy_test_mode||' .
	    'trial.test|trial.test|trial.test|mfrom|fail',
	    "$name: an override says why";
	like ask_reports($server, 'claim', report_id => 'now'),
	    qr/^action=NONE/, "$name: all are claimed";
	my ($begin, $id) = $own[0] =~ /^own\.test\|(\d+)\|(\d+)/;
	is ask_reports($server, 'done', report_domain => 'own.test',
	    report_id => "$begin $id"), "action=OK\n", "$name: and done with";
}

subtest 'SQLite' => sub {
	my $server = start_millgate(text => configuration());

	collected($server, 'SQLite');
	is $server->stop, 0, 'ends';
};

subtest 'Redis' => sub {
	my $redis = start_redis();
	my $server = start_millgate(text => configuration(<<"END"));
store { type = redis server = { "127.0.0.1:$redis->{port}" } }
END

	collected($server, 'Redis');
	is $server->stop, 0, 'ends';
};

subtest 'the policy process dies' => sub {
	my $server = start_millgate(text => configuration());
	my ($policy) = $server->children('policy');

	like attempt($server, 'own.test'), qr/^250 /, 'before';
	wait_for('the tally', sub { ask_reports($server, 'list') =~ /own/ });
	kill 'STOP', $policy;
	like attempt($server, 'own.test'), qr/^250 /, 'mail does not wait';
	kill 'KILL', $policy;
	wait_for('another policy process', sub {
		my ($now) = $server->children('policy');
		return $now && $now != $policy;
	});
	# The second may come too late for the first claim.
	my $count = 0;
	wait_for('both messages', sub {
		my (undef, undef, @rows) = claim($server, 'own.test');
		/^(\d+)/ and $count += $1 for @rows;
		return $count >= 2;
	});
	is $count, 2, 'each is counted once';
	is $server->stop, 0, 'ends';
};

done_testing;
