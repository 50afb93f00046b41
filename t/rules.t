#!/usr/bin/perl
# Rules over what SPF, DMARC, SpamAssassin and reputation found: points,
# thresholds, actions and classes of recipients, by the log, the reply and the
# fields.
use strict;
use warnings;
use Millgate::Milters;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $gtube = 'XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*' .
    'C.34X';
my $dns = start_dns(
    'sender.test' => [ '@ TXT "v=spf1 ip4:127.0.0.1 -all"' ],
    'other.test' => [ '@ TXT "v=spf1 -all"' ],
    'bank.test' => [ '_dmarc TXT "v=DMARC1; p=none"' ],
    '0.0.127.in-addr.arpa' => []);
my ($scanner) = start_spamassassin('spamass' => []);

my $rules = <<'END';
rule banned_word {
	when = "header('Subject'):find('(?i)^evil') and is('sender sender.test')"
	action = reject
	text = "No evil here"
}
rule forged_bank {
	when = "dmarc ~= 'pass' and from_domain == 'bank.test'"
	score = 8
}
rule spf_fail { when = "spf == 'fail'"  score = 2.5 }
rule spamassassin {
	when = "number(added('X-Spam-Status'):match('score=(-?[0-9.]+)')) > 5"
	score = 20
}
rule fails { when = "spf:find(size > 1 and '(' or 'x')"  action = reject }
rule later { when = "header('Subject') == 'later'"  action = defer }
rule friend { when = "header('Subject') == 'friend'"  action = accept }
scoring_class board { recipients = { "boss@example.test" }  reject = 2 }
END

sub configuration { return <<"END" . $rules }
gateways = 1
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { @{[ $dns->{stubs} ]} }
dns_timeout = 2s
route "*" { via = { "maildir:\@DIR\@/mail" } }
milter spamass { endpoint = { "$scanner->{endpoint}" } default_action = accept }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { spf, dkim, dmarc, spamass, rules }
}
scoring { reject = 15 quarantine = 8 add_header = 2 @_ }
END

my $gate = start_millgate(text => configuration());
ready($scanner);

sub through {
	my (%options) = @_;
	return pass_through($gate, $gate->{port}, from => 'a@sender.test',
	    %options);
}

# The log says so of a message.
sub told {
	my ($id, $text) = @_;
	$gate->logs(qr/$id: filter=rules \Q$text\E\n/, "log: $text");
}

subtest 'what is well passes' => sub {
	my ($reply, $id, $mail) = through(data => "X-Spam-Flag: YES\r\n" .
	    "X-Spam-Score: 99\r\n" . message());

	like($reply, qr/^250 /, 'accepted');
	like($mail, qr/^X-Spam-Status: No, /m, 'SpamAssassin saw it');
	unlike($mail, qr/^X-Spam-(?:Flag|Score):/m,
	    'what the sender wrote is gone');
	unlike($gate->log, qr/$id: filter=rules rules=/, 'no rule was true');
	$gate->tells([ 'explain', $id ], qr{rules="" score=0/15 action=none},
	    'explain tells so');
};

subtest 'points mark' => sub {
	my ($reply, $id, $mail) = through(from => 'a@other.test');

	like($reply, qr/^250 /, 'accepted');
	like($mail, qr/^X-Spam-Flag: YES\r?\n/m, 'flag');
	like($mail, qr/^X-Spam-Score: 2\.5\r?\n/m, 'score');
	is_deeply([ $mail =~ /^X-Spam-Status: (\w+)/mg ], [ 'Yes' ],
	    'status, in place of the scanner\'s');
	like($mail, qr/^X-Spam-Status:\ Yes,\ score=2\.5\ required=2\r?\n
	    \trules="spf_fail:2\.5"/mx, 'with the rules');
	told($id, 'rules="spf_fail:2.5" score=2.5/15 action=add_header');
};

subtest 'points add up and hold' => sub {
	my ($reply, $id, $mail) = through(from => 'a@other.test',
	    data => message(From => 'Bank <info@bank.test>'));

	like($reply, qr/^250 /, 'accepted');
	is($mail, undef, 'not delivered');
	told($id, 'rules="forged_bank:8 spf_fail:2.5" score=10.5/15 ' .
	    'action=quarantine');
	$gate->tells([ 'queue', 'show', $id ],
	    qr/score: forged_bank:8 spf_fail:2\.5/, 'the queue tells why');
};

subtest 'a scanner\'s score counts, a sender\'s does not' => sub {
	my $forged = "X-Spam-Status: No, score=-100 required=5\r\n";
	my ($reply) = through(data => $forged . message(body => "$gtube\r\n"));

	like($reply, qr/^550 5\.7\.1 Message looks like spam \[score \w+\]\r/,
	    'refused with code and reference');
	my ($id) = $reply =~ /\[score (\w+)\]/;
	$gate->tells([ 'explain', $id ],
	    qr{rules="spamassassin:20" score=20/15 action=reject},
	    'which finds the trace');
	($reply) = through(data => "X-Spam-Status: Yes, score=100\r\n" .
	    message());
	like($reply, qr/^250 /, 'not the other way, either');
};

subtest 'rules decide by themselves' => sub {
	my ($reply) = through(data => message(Subject => 'Evil plan'));
	like($reply, qr/^550 5\.7\.1 No evil here \[rule \w+\]/, 'refused');
	($reply) = through(data => message(Subject => 'later'));
	like($reply, qr/^451 4\.7\.1 .*\[rule \w+\]/, 'deferred');
	my ($friend, $id) = through(data => message(Subject => 'friend',
	    body => "$gtube\r\n"), from => 'a@other.test');
	like($friend, qr/^250 /, 'accepted whatever its points');
	told($id, 'rules="spf_fail:2.5 spamassassin:20 friend:0" ' .
	    'score=22.5/15 action=accept rule=friend');
};

subtest 'classes of recipients' => sub {
	my ($reply) = through(from => 'a@other.test',
	    to => [ 'boss@example.test' ]);
	like($reply, qr/^550 5\.7\.1 .*\[score \w+\]/, 'refused for one');
	($reply, my $id, my $mail) = through(from => 'a@other.test',
	    to => [ 'boss@example.test', 'bob@example.test' ]);
	like($reply, qr/^250 /, 'with another: accepted');
	is($mail, undef, 'and held');
	$gate->logs(qr/$id: .*\(hold\)/, 'the log tells');
};

subtest 'a session: nothing stays of a message' => sub {
	my $smtp = $gate->smtp;
	my $deliver = sub {
		my (%options) = @_;
		my $reply = $smtp->deliver(from => 'a@sender.test', %options);
		return ($reply, $reply =~ /queued as (\w+)/);
	};
	my @spam = (from => 'a@other.test', data => message(From =>
	    'Bank <info@bank.test>', body => "$gtube\r\n"));

	like(($deliver->(data => message(Subject => 'friend')))[0], qr/^250 /,
	    'a rule accepts a message');
	like(($deliver->(@spam))[0], qr/^550 5\.7\.1 .*\[score \w+\]/,
	    'the next is judged by itself');
	my ($reply, $id) = $deliver->();
	like($reply, qr/^250 /, 'and the one behind that');
	unlike($gate->log, qr/$id: filter=rules /, 'no rule is true of it');
	($reply, $id) = $deliver->(from => 'a@other.test',
	    data => message(From => 'Bank <info@bank.test>'));
	$gate->logs(qr/$id: .*\(hold\)/, 'one is held');
	$smtp->command($_) for 'MAIL FROM:<a@other.test>',
	    'RCPT TO:<boss@example.test>', 'RSET';
	($reply, $id) = $deliver->(from => 'a@other.test');
	like($reply, qr/^250 /, 'a recipient\'s class is forgotten');
	told($id, 'rules="spf_fail:2.5" score=2.5/15 action=add_header');
	$gate->wait_log(qr/$id: to=<.*status=sent/);
	pass('nor is it held');
	$smtp->close;
};

subtest 'a condition that fails' => sub {
	my @warnings = $gate->log =~ /(warning: .*rule=fails: .*)/g;

	is(scalar @warnings, 1, 'is told once')
	    or diag(join("\n", @warnings));
	like($warnings[0], qr/missing closing parenthesis/, 'with the reason');
	like(($gate->ctl('stats'))[1], qr/errors \(fails\) +[1-9]/,
	    'and counted');
};

subtest 'recipients apart' => sub {
	$gate->configure(configuration('mixed = apart'));
	my ($status, $output) = $gate->ctl('reload');
	is($status, 0, 'reload') or diag($output);
	wait_for('the new configuration', sub {
		my $client = new_smtp(port => $gate->{port});
		$client->reply;
		$client->command('EHLO client.test');
		$client->command('MAIL FROM:<a@sender.test>');
		$client->command('RCPT TO:<boss@example.test>');
		my $reply = $client->command('RCPT TO:<bob@example.test>');
		my $other = $client->command('RCPT TO:<boss@example.test>');
		$client->close;
		return $reply =~ /^452 4\.5\.3 .*\[rules-class \w+\]/ &&
		    $other =~ /^250 /;
	});
	pass('452 for the second class');
};

subtest 'reputation gives points' => sub {
	my $other = start_millgate(text => <<'END');
gateways = 1
trusted_networks = { "192.0.2.0/24" }
route "*" { via = { "maildir:@DIR@/mail" } }
reputation { }
listener smtp {
	address = { "127.0.0.1:@PORT@" }
	hostname_lookup = no
	filters = { reputation, rules }
}
rule known { when = "points('reputation') > 0.5"  score = 14.5 }
END
	my ($status, $output) = $other->ctl('rep', 'pin', 'address:127.0.0.1',
	    'bad');
	is($status, 0, 'pinned') or diag($output);
	my ($reply) = pass_through($other, $other->{port});
	like($reply, qr/^550 5\.7\.1 .*\[score (\w+)\]/, 'refused');
	my ($id) = $reply =~ /\[score (\w+)\]/;
	my $why = $other->tells([ 'explain', $id ],
	    qr/rules="x-reputation:[\d.]+ known:14\.5"/,
	    'by its points and a rule that weighs them');
	like($why, qr/rules=ham/, 'which is no news to reputation');
	$other->stop;
	ok(sanitizers_silent($other->log), 'sanitizers are silent');
};

subtest 'errors have their places' => sub {
	my $bad = start_millgate(only_configure => 1, text => <<'END');
listener smtp { address = { "127.0.0.1:@PORT@" } filters = { rules } }
rule a {
	when = "spff == 'fail'"
}
rule b { when = "sender:find('(')" }
rule c { when = "(function() while true do end end)()" }
END
	my ($status, $output) = run_command($bad->command('-n'));
	my ($first) = map { 1 + scalar(() = $_ =~ /\n/g) }
	    read_file($bad->{conf}) =~ /\A(.*?)^rule a/ms;

	is($status, 78, 'exit status');
	my $place = "$bad->{conf}:" . ($first + 1);
	like($output, qr/^\Q$place\E: when: unknown name 'spff'$/m,
	    'an unknown name');
	like($output, qr/:@{[ $first + 3 ]}: when: pattern, at character 1: /,
	    'a pattern');
	like($output, qr/:@{[ $first + 4 ]}: when: no 'function' in/,
	    'what could loop');
};

$gate->stop;
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
