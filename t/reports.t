#!/usr/bin/perl
# DMARC aggregate reports (RFC 9990): what comes in is counted in the store, on
# both back ends, and sent to those who may have it, once for a fleet.

use strict;
use warnings;

use IO::Socket::UNIX;
use IO::Uncompress::Gunzip qw(gunzip);
use MIME::Base64;
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
	'abroad.test' => [ $good, '_dmarc TXT "v=DMARC1; p=none; ' .
	    'rua=mailto:a@willing.test,mailto:b@other.test"' ],
	'nowhere.test' => [ $good, '_dmarc TXT "v=DMARC1; p=none; ' .
	    'rua=mailto:b@other.test"' ],
	'willing.test' => [ 'abroad.test._report._dmarc TXT "v=DMARC1;"' ],
	'other.test' => [],
);

sub configuration {
	my ($more, %options) = @_;
	my $via = $options{via} // 'maildir:@DIR@/mail';
	my $interval = $options{interval} // '7d';
	return <<"END" . ($more // '');
gateways = 1
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs} }
dns_timeout = 2s
route "*" { via = { "$via" } }
route "example.test" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { spf, dkim, dmarc, authres }
}
dmarc_report { email = "reports\@example.test" interval = $interval }
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

subtest 'rules of ours' => sub {
	my $server = start_millgate(text => configuration(<<'END'));
dmarc { override = { "forged.test = quarantine", "127.0.0.0/8 = none" } }
END
	my %want = (
		'forged.test' => 'quarantine|fail|fail|local_policy|' .
		    'rule for forged.test',
		'own.test' => 'none|fail|fail|trusted_forwarder|' .
		    'rule for 127.0.0.0/8',
		'trial.test' => 'none|fail|fail|policy_test_mode|',
	);

	like attempt($server, $_), qr/^250 /, "$_: not refused"
	    for 'forged.test', 'sub.own.test', 'trial.test';
	for my $domain (sort keys %want) {
		wait_for("the tally of $domain", sub {
			ask_reports($server, 'list') =~ /\Q$domain/ });
		like +(claim($server, $domain))[2],
		    qr/^1\|127\.0\.0\.1\|\Q$want{$domain}\E\|/,
		    "$domain: the report says why";
	}
	is $server->stop, 0, 'ends';
};

subtest 'the policy process dies' => sub {
	my $server = start_millgate(text => configuration());
	my ($policy) = $server->children('policy');

	like attempt($server, 'own.test'), qr/^250 /, 'before';
	wait_for('the tally', sub { ask_reports($server, 'list') =~ /own/ });
	sleep 1;		# what it knows is in the file a moment later
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

# The reports that a sink has: { xml, text, file, errors of the schema }.
sub reports {
	my ($sink) = @_;
	my @reports;

	for my $text ($sink->messages) {
		my ($name, $part) = $text =~ /filename="?([^";\s]+)"?.*?\r\n\r\n
		    ([A-Za-z0-9+\/=\r\n]+)/sx or next;
		my ($gzip, $xml) = (decode_base64($part));
		gunzip(\$gzip => \$xml) or next;
		my $file = write_file('report.xml', $xml);
		my ($status, $output) = run_command('xmllint', '--noout',
		    '--schema', source_dir() . '/t/lib/dmarc-2.0.xsd', $file);
		push @reports, { xml => $xml, text => $text, name => $name,
		    errors => $status == 0 ? '' : $output };
	}
	return @reports;
}

sub field {
	my ($report, $name) = @_;
	return join ',', $report->{xml} =~ m{<$name>([^<]*)</$name>}g;
}

sub wait_list {
	my ($server, @domains) = @_;
	wait_for('the list', sub {
		my (undef, $list) = $server->ctl('dmarc', 'list');
		return @domains == grep { $list =~ /^\Q$_\E, from /m } @domains;
	});
}

subtest 'sending' => sub {
	my $sink = start_sink();
	my $server = start_millgate(text => configuration('',
	    via => "smtp:127.0.0.1:$sink->{port}"));

	my ($status, $output) = $server->ctl('dmarc', 'send');
	like $output, qr/there is nothing to report/, 'nothing yet';
	attempt($server, 'own.test') for 1 .. 3;
	attempt($server, $_) for qw(forged.test abroad.test nowhere.test);
	wait_list($server, qw(own.test forged.test abroad.test nowhere.test));

	($status, $output) = $server->ctl('dmarc', 'send', 'own.test');
	is $status, 0, 'sends one';
	like $output, qr/domain=own\.test, id=\w+, to=<dmarc\@own\.test>, messages=3, rows=1, sent: \w+/,
	    'and says so';
	wait_for('the report', sub { $sink->messages });
	my ($report) = reports($sink);
	is $report->{errors}, '', 'it is what the schema says';
	is field($report, 'count'), '3', 'all messages are counted';
	is field($report, 'domain'), 'own.test,own.test', 'the domain';
	is field($report, 'p'), 'reject', 'the policy';
	is field($report, 'adkim'), 's', 'the mode';
	is field($report, 'disposition'), 'pass', 'what became of them';
	is field($report, 'org_name'), 'mx.example.test', 'we made it';
	like $report->{name},
	    qr/^mx\.example\.test!own\.test!\d+!\d+(?:!\w+)?\.xml\.gz$/,
	    'the name of the file';
	like $report->{text}, qr/^From: <reports\@example\.test>\r$/m,
	    'from our address';
	ok((grep { /^MAIL FROM:<>/ } $sink->commands), 'with the null sender');

	($status, $output) = $server->ctl('dmarc', 'send');
	is $status, 0, 'sends all';
	like $output, qr/domain=abroad\.test, .*to=<a\@willing\.test>, messages=1, rows=1, sent/,
	    'to another domain that wants it';
	like $output, qr/domain=abroad\.test, .*to=<b\@other\.test>, refused: /,
	    'not to one that did not say so';
	like $output, qr/domain=nowhere\.test, .*refused: nobody takes it/,
	    'to nobody if nobody does';
	like $output, qr/domain=forged\.test, .*messages=1, rows=1, sent/,
	    'of refused mail, too';
	unlike $output, qr/own\.test/, 'none twice';
	wait_for('the reports', sub { $sink->messages == 3 });
	is_deeply [ sort map { /^RCPT TO:<(.*?)>/ } $sink->commands ],
	    [ qw(a@willing.test dmarc@forged.test dmarc@own.test) ],
	    'these and no others got any';
	is scalar(grep { $_->{errors} eq '' } reports($sink)), 3,
	    'all are what the schema says';
	($status, $output) = $server->ctl('dmarc', 'list');
	is $output, '', 'nothing is left';
	($status, $output) = $server->ctl('dmarc', 'send', 'a b');
	isnt $status, 0, 'no domain';
	is $server->stop, 0, 'ends';
};

subtest 'a fleet' => sub {
	my ($redis, $sink) = (start_redis(), start_sink());
	my @fleet = map { start_millgate(text => configuration(<<"END",
store { type = redis server = { "127.0.0.1:$redis->{port}" } }
END
	    via => "smtp:127.0.0.1:$sink->{port}", interval => '3s')) } 1 .. 2;

	# In one interval or two: reports that are due go by themselves.
	attempt($fleet[$_ % 2], 'own.test') for 1 .. 6;
	my (@reports, $count);
	wait_for('all messages in reports', sub {
		$count = 0;
		@reports = reports($sink);
		$count += $_ for map { split /,/, field($_, 'count') } @reports;
		return $count >= 6;
	});
	my %ids = map { field($_, 'report_id') => 1 } @reports;
	$_->ctl('dmarc', 'send') for @fleet;
	wait_for('empty queues', sub {
		return !grep { ($_->ctl('queue', 'list'))[1] !~ /is empty/ }
		    @fleet;
	});
	is $count, 6, 'each message is in one report';
	is scalar(keys %ids), scalar($sink->messages), 'each report is sent once';
	is $_->stop, 0, 'ends' for @fleet;
};

# It dies when the report is in the queue, but the store has not heard of it.
# A host that hangs and a policy process that does make the time for that.
subtest 'the relay dies' => sub {
	my $sink = start_sink();
	my ($key) = dkim_key('reports');
	my $server = start_millgate(text => configuration(<<"END",
dkim_sign ours { domains = { example.test } selector = s key = "$key" }
END
	    via => "smtp:127.0.0.1:$sink->{port}"));
	my ($host) = $server->children('host');
	my ($policy) = $server->children('policy');
	my ($relay) = $server->children('relay');

	attempt($server, 'own.test');
	wait_list($server, 'own.test');
	kill 'STOP', $host;
	my $ctl = start_process('send', [ as_nobody(build_dir() .
	    '/gateway/millgatectl', '-s', "$server->{dir}/run/control", 'dmarc',
	    'send') ]);
	$server->wait_log(qr/operator: queue dmarc-send/);
	sleep 1;
	kill 'STOP', $policy;
	kill 'CONT', $host;
	my $id = $server->wait_log(qr/domain=own\.test, .*rows=1, sent: (\w+)/);
	kill 'KILL', $relay;
	kill 'CONT', $policy;
	wait_for('another relay', sub {
		my ($now) = $server->children('relay');
		return $now && $now != $relay;
	});
	wait_for('the store to hear of it', sub {
		my ($status, $list) = $server->ctl('dmarc', 'list');
		return $status == 0 && $list eq '';
	});
	ok 1, 'the store hears of it at once';
	like +($server->ctl('dmarc', 'send'))[1], qr/nothing to report/,
	    'there is no more to send';
	wait_for('an empty queue', sub {
		($server->ctl('queue', 'list'))[1] =~ /is empty/ });
	# A crash may repeat a delivery; it is the same message then.
	my %ids = map { field($_, 'report_id') => 1 } reports($sink);
	is keys %ids, 1, 'one report was sent';
	my $made = () = $server->log =~ /rows=1, sent: /g;
	is $made, 1, 'and made once';
	$server->logs(qr/\Q$id\E: to=<dmarc\@own\.test>.*status=sent/,
	    'it arrives');
	stop_process($ctl);
	is $server->stop, 0, 'ends';
};

# Reports that take longer than an operator's patience with the relay.
subtest 'it takes time' => sub {
	my $sink = start_sink();
	my ($key) = dkim_key('slow');
	my $server = start_millgate(text => configuration(<<"END",
dkim_sign ours { domains = { example.test } selector = s key = "$key" }
END
	    via => "smtp:127.0.0.1:$sink->{port}"));
	my ($host) = $server->children('host');

	attempt($server, $_) for qw(own.test forged.test);
	wait_list($server, qw(own.test forged.test));
	kill 'STOP', $host;
	my $start = time;
	my ($status, $output) = $server->ctl('dmarc', 'send');
	cmp_ok time - $start, '>=', 10, 'longer than the console waits';
	is $status, 0, 'the answer comes all the same';
	is scalar(() = $output =~ /rows=1, sent: /g), 2, 'with both reports';
	kill 'CONT', $host;
	is $server->stop, 0, 'ends';
};

subtest 'no reports' => sub {
	my $server = start_millgate;
	my ($status, $output) = $server->ctl('dmarc', 'list');

	isnt $status, 0, 'nothing to list';
	like $output, qr/no reports are made/, 'it says why';
	is $server->stop, 0, 'ends';
};

done_testing;
