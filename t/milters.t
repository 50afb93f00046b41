#!/usr/bin/perl
# Millgate drives milters of others, on several engines: libmilter (OpenDKIM),
# Mailfromd, Rspamd, and a Perl one that knows version 2 only.  Then milters
# that are down, die, hang, and come back.
use strict;
use warnings;
use Millgate::Milters;
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(sleep time);

my $mailfromd = start_mailfromd(<<'END');
string test ""

prog envfrom
do
  set test ""
done

prog header
do
  if $1 = "X-Test"
    set test $2
  fi
done

prog eom
do
  header_add("X-Mailfromd", "test %test")
  switch test
  do
  case "edit":
    header_replace("Subject", "changed")
    rcpt_add("<added@example.test>")
    rcpt_delete("<gone@example.test>")
    replbody("first line\nsecond line\n")
  case "discard":
    discard
  case "quarantine":
    quarantine("looks odd")
  case "reject":
    reject 554 5.7.7 "not today"
  done
done
END

my ($key, $record) = dkim_key('rsa', 2048);
my $keys = write_file('keys', "sel._domainkey.sender.test $record\n" =~
    s/" "|"//gr);
my %port = map { $_ => free_port() } qw(pmilter see die hang hang-end late
    down opendkim);
my %listener = (
	unix => [ 'opendkim_unix' ], tcp => [ 'opendkim_tcp' ],
	pmilter => [ 'pmilter' ], rspamd => [ 'rspamd' ],
	mailfromd => [ 'mailfromd' ], two => [ 'mailfromd', 'see' ],
	tempfail => [ 'down_tempfail' ], accept => [ 'down_accept' ],
	reject => [ 'down_reject' ], hold => [ 'down_quarantine' ],
	die => [ 'die' ], hang => [ 'hang' ], hangend => [ 'hangend' ],
	late => [ 'late' ], failover => [ 'failover' ],
);
$port{"listen $_"} = free_port() for keys %listener;

my $opendkim_unix = start_opendkim(name => 'opendkim-unix', key => $key,
    domain => 'sender.test', selector => 'sel');
my $opendkim_tcp = start_opendkim(name => 'opendkim-tcp', key => $key,
    domain => 'sender.test', selector => 'sel', port => $port{opendkim});
my $rspamd = start_rspamd();
start_pmilter('add', $port{pmilter});
start_pmilter('see', $port{see});
my $mortal = start_pmilter('die', $port{die});
start_pmilter('hang', $port{hang});
start_pmilter('hang-end', $port{'hang-end'});

my $gate = start_millgate(text => <<"END" . join '',
gateways = 1
trusted_networks = { "127.0.0.0/8" }
relay_domains = { example.test }
dns_forwarders = { "127.0.0.1\@9" }
dns_timeout = 100ms
route "*" { via = { "maildir:\@DIR\@/mail" } }
milter opendkim_unix { endpoint = { "$opendkim_unix->{endpoint}" } }
milter opendkim_tcp { endpoint = { "$opendkim_tcp->{endpoint}" } }
milter pmilter { endpoint = { "127.0.0.1:$port{pmilter}" } }
milter see { endpoint = { "127.0.0.1:$port{see}" } }
milter mailfromd { endpoint = { "$mailfromd->{endpoint}" } }
milter rspamd { endpoint = { "$rspamd->{endpoint}" } reuse = yes }
milter down_tempfail { endpoint = { "127.0.0.1:$port{down}" } }
milter down_accept {
	endpoint = { "127.0.0.1:$port{down}" }
	default_action = accept
}
milter down_reject {
	endpoint = { "127.0.0.1:$port{down}" }
	default_action = reject
}
milter down_quarantine {
	endpoint = { "127.0.0.1:$port{down}" }
	default_action = quarantine
}
milter die { endpoint = { "127.0.0.1:$port{die}" } }
milter hang {
	endpoint = { "127.0.0.1:$port{hang}" }
	command_timeout = 500ms
}
milter hangend {
	endpoint = { "127.0.0.1:$port{'hang-end'}" }
	content_timeout = 500ms
	default_action = reject
}
milter late { endpoint = { "127.0.0.1:$port{late}" } }
milter failover {
	endpoint = { "127.0.0.1:$port{down}", "127.0.0.1:$port{pmilter}" }
}
END
    map { "listener $_ { address = { \"127.0.0.1:$port{\"listen $_\"}\" } " .
    'hostname_lookup = no filters = { ' .
    join(', ', @{ $listener{$_} }) . " } }\n" } sort keys %listener);

# As Millgate::Milters::pass_through, to a listener by its name; test is what
# Mailfromd learns.
sub through {
	my ($listener, %options) = @_;
	my $test = delete $options{test} // 'no';

	return pass_through($gate, $port{"listen $listener"}, %options,
	    data => "X-Test: $test\r\n" . ($options{data} // message()));
}

sub logged {
	my ($pattern, $name) = @_;
	ok($gate->log =~ $pattern, $name) or
	    diag(join "\n", grep { /filter=|milter/ } split /\n/, $gate->log);
}

for my $kind (qw(unix tcp)) {
	subtest "OpenDKIM signs over $kind" => sub {
		my ($reply, $id, $mail) = through($kind);

		like($reply, qr/^250 /, 'accepted');
		like(dkim_python($mail, 'verify', $keys),
		    qr/^pass .*d=sender\.test s=sel/,
		    'another implementation verifies it');
		is(() = $mail =~ /^DKIM-Signature:/mg, 1, 'one signature');
	};
}

subtest 'a milter of version 2' => sub {
	my ($reply, $id, $mail) = through('pmilter');

	like($mail, qr/^X-PMilter: queue id $id\r?$/m,
	    'adds a field, and knows the queue id');
	my $client = new_smtp(port => $port{'listen pmilter'});
	$client->command('EHLO client.sender.test');
	like($client->command('NONSENSE'), qr/^5/,
	    'an unknown command is refused, and not by the milter');
	$client->command('MAIL FROM:<alice@sender.test>');
	like($client->command('RCPT TO:<refused@example.test>'),
	    qr/^550 5\.1\.1 .*No such user, says 100% Perl/,
	    'refuses a recipient in its own words');
	like($client->command('RCPT TO:<bob@example.test>'), qr/^250 /,
	    'another is fine');
	like($client->command('DATA'), qr/^354 /, 'the message goes on');
	like($client->command(message() . '.'), qr/^250 /, 'and is taken');
	$client->close;
};

subtest 'Rspamd' => sub {
	my ($reply) = through('rspamd', data => message(body =>
	    'XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*' .
	    "C.34X\r\n"));
	like($reply, qr/^554 5\.7\.1 .*Gtube/i, 'refuses the test pattern');
	for my $round (1, 2) {
		($reply) = through('rspamd');
		like($reply, qr/^250 /, "takes another message, round $round");
	}
};

subtest 'Mailfromd edits' => sub {
	my ($reply, $id, $mail) = through('mailfromd', test => 'edit',
	    to => [ 'bob@example.test', 'gone@example.test' ]);

	like($mail, qr/^X-Mailfromd: test edit\r?$/m, 'a field is added');
	is_deeply([ $mail =~ /^Subject: (.*?)\r?$/mg ], [ 'changed' ],
	    'the subject is another');
	is_deeply([ recipients($gate, $id) ],
	    [ 'added@example.test', 'bob@example.test' ],
	    'one recipient came, one went');
	like($mail, qr/\n\r?\nfirst line\r?\nsecond line\r?\n\z/,
	    'the body is another');
};

subtest 'Mailfromd refuses, discards, holds' => sub {
	my ($reply, $id, $mail) = through('mailfromd', test => 'reject');
	like($reply, qr/^554 5\.7\.7 not today/, 'refused in its own words');

	($reply, $id, $mail) = through('mailfromd', test => 'discard');
	like($reply, qr/^250 /, 'discard: the client hears 250');
	is($mail, undef, 'discard: nothing is delivered');
	logged(qr/$id: discard/, 'discard: the log says so');

	($reply, $id, $mail) = through('mailfromd',
	    test => 'quarantine');
	like($reply, qr/^250 /, 'quarantine: the client hears 250');
	is($mail, undef, 'quarantine: nothing is delivered');
	logged(qr/$id: from=.*\(hold\)/, 'quarantine: held');
	$gate->tells([ 'queue', 'show', $id ], qr/looks odd/,
	    'quarantine: the queue shows the reason');
};

subtest 'the second sees what the first changed' => sub {
	my ($reply, $id, $mail) = through('two', test => 'edit');
	my ($seen) = $mail =~ /^X-Seen: (.*(?:\r?\n[ \t].*)*)/m;

	like($seen, qr/Subject=changed/, 'the new subject');
	unlike($seen, qr/Subject=test/, 'not the old one');
	like($seen, qr/X-Mailfromd=test edit/, 'the added field');
	like($seen, qr/body=first line<CR><LF>second line<CR><LF>/,
	    'the new body, its line ends mended');
};

subtest 'a milter that is down' => sub {
	# Each: listener, the reply; the log names it and tells why.
	for my $case ([ 'tempfail', qr/^451 4\.7\.1 / ],
	    [ 'accept', qr/^250 / ], [ 'reject', qr/^550 5\.7\.1 / ],
	    [ 'hold', qr/^250 / ]) {
		my ($name, $want) = @$case;
		my ($filter) = @{ $listener{$name} };
		my ($reply, $id, $mail) = through($name);

		like($reply, $want, "$name: the reply");
		logged(qr/filter=$filter .*stage=\w+.*refused/i,
		    "$name: the log names filter, stage and reason");
		ok(defined $mail, "$name: delivered") if $name eq 'accept';
		logged(qr/$id: .*\(hold\)/, "$name: held") if $name eq 'hold';
	}
};

subtest 'a milter that hangs' => sub {
	my $start = time;
	my ($reply) = through('hang');
	my $seconds = time - $start;

	like($reply, qr/^451 4\.7\.1 /, 'at the sender: 451');
	cmp_ok($seconds, '<', 2.5, 'at the sender: in time');
	logged(qr/filter=hang stage=mail: no reply in time/,
	    'at the sender: the log');

	$start = time;
	($reply) = through('hangend');
	$seconds = time - $start;
	like($reply, qr/^550 5\.7\.1 /, 'at the end: as configured');
	cmp_ok($seconds, '<', 2.5, 'at the end: in time');
	logged(qr/filter=hangend stage=\w+: no reply in time/,
	    'at the end: the log');
};

subtest 'a milter that is killed at the end of a message' => sub {
	my ($reply) = through('die');

	like($reply, qr/^451 4\.7\.1 /, 'the client shall come again');
	logged(qr/\w{12,}: filter=die stage=(?:eom|connect|end): /,
	    'the log names message, filter and stage');
	stop_process($mortal->{pid});
};

my $late;
subtest 'the breaker opens, and closes when the milter is back' => sub {
	my ($reply, $id, $mail);

	through('late') for 1 .. 3;
	logged(qr/filter=late: 127\.0\.0\.1:$port{late} failed 3 times/,
	    'three failures open it');
	($reply) = through('late');
	like($reply, qr/^451 /, 'open: the same reply');
	logged(qr/filter=late stage=\w+: failed before, next attempt later/,
	    'open: no attempt is made');
	$late = start_pmilter('add', $port{late});
	wait_for('the breaker to close', sub {
		sleep 0.2;
		($reply, $id, $mail) = through('late');
		return $reply =~ /^250/;
	}, 10);
	like($mail, qr/^X-PMilter:/m, 'closed: asked again');
	logged(qr/milter 127\.0\.0\.1:$port{late} works again/,
	    'closed: the log');
};

subtest 'a milter that is restarted during a session is told again' => sub {
	my $client = new_smtp(port => $port{'listen late'});

	$client->command('EHLO client.sender.test');
	$client->command('MAIL FROM:<alice@sender.test>');
	like($client->command('RCPT TO:<bob@example.test>'), qr/^250 /,
	    'a recipient is taken by the first');
	kill 'KILL', process_tree($late->{pid});
	stop_process($late->{pid});
	start_pmilter('add', $port{late});
	like($client->command('RCPT TO:<refused@example.test>'),
	    qr/^550 5\.1\.1 /, 'another is refused by the next');
	like($client->command('DATA'), qr/^354 /, 'the message goes on');
	my $reply = $client->command(message() . '.');
	like($reply, qr/^250 /, 'and is taken');
	my ($id) = $reply =~ /queued as (\w+)/;
	$gate->wait_log(qr/$id: removed/);
	is((grep { /^X-PMilter: queue id $id\r?$/m }
	    mailbox("$gate->{dir}/mail")), 1, 'with its field');
	$client->close;
};

subtest 'fail-over' => sub {
	my ($reply, $id, $mail) = through('failover');

	like($reply, qr/^250 /, 'accepted');
	like($mail, qr/^X-PMilter: queue id $id\r?$/m,
	    'the second end point was asked');
	logged(qr/filter=failover endpoint=127\.0\.0\.1:$port{down} /,
	    'the log tells of the first');
};

is($gate->stop, 0, 'stops well');
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
