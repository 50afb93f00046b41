#!/usr/bin/perl
# ARC: chains, good and damaged in every way we know, judged by us and by
# dkimpy; chains that we seal, judged by dkimpy; forwarding through two
# Millgates; and what a trusted sealer's word does to DMARC's policy.
use strict;
use warnings;
use IO::Socket::INET;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my ($list, $list_record) = dkim_key('list', 1024);
my ($ours, $ours_record) = dkim_key('ours', 2048);
my ($ed) = dkim_key('ed');
my $keys = write_file('keys', join '', map { s/" "|"//gr }
    "a._domainkey.list.test $list_record\n",
    "a._domainkey.evil.test $list_record\n",
    "s._domainkey.hop.test $ours_record\n",
    "revoked._domainkey.list.test \"v=DKIM1; p=\"\n",
    "revoked._domainkey.hop.test \"v=DKIM1; p=\"\n");
my $dns = start_dns(test => [],
    'list.test' => [ "a._domainkey TXT $list_record",
	'revoked._domainkey TXT "v=DKIM1; p="' ],
    'evil.test' => [ "a._domainkey TXT $list_record" ],
    'hop.test' => [ "s._domainkey TXT $ours_record",
	'revoked._domainkey TXT "v=DKIM1; p="' ],
    # The client of the first hop may send for it, the first hop may not.
    'bank.test' => [ '@ TXT "v=spf1 ip4:127.0.0.2 -all"',
	'_dmarc TXT "v=DMARC1; p=reject"' ],
    'hold.test' => [ '@ TXT "v=spf1 -all"',
	'_dmarc TXT "v=DMARC1; p=quarantine"' ]);

# The last hop: one listener heeds ARC, one does not.  And one that only
# validates; it gets so many messages that its log is no pleasure to wait for.
my %port = map { $_ => free_port() } qw(heeds ignores forward fail);
my $top = <<"END";
gateways = 1
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs} }
dns_timeout = 2s
END
my $judge = start_millgate(text => <<"END");
$top
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { arc, authres }
}
END
my $last = start_millgate(text => <<"END");
$top
relay_domains = { fwd.test, blind.test, example.test }
route "*" { via = { "maildir:\@DIR\@/mail" } }
arc { trusted_sealers = { list.test, hop.test } }
listener heeds {
	address = { "127.0.0.1:$port{heeds}" }
	hostname_lookup = no
	filters = { spf, dkim, arc, dmarc, authres }
}
listener ignores {
	address = { "127.0.0.1:$port{ignores}" }
	hostname_lookup = no
	filters = { spf, dkim, dmarc, authres }
}
END

# A hop that validates and seals; what it forwards goes to the last one.
my $hop = start_millgate(text => <<"END");
$top
route "fwd.test" { via = { "smtp:127.0.0.1:$port{heeds}" } }
route "blind.test" { via = { "smtp:127.0.0.1:$port{ignores}" } }
route "*" { via = { "maildir:\@DIR\@/mail" } }
relay_domains = { fwd.test, blind.test, example.test }
arc_seal seal {
	domain = hop.test  selector = s  key = "$ours"
}
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { spf, dkim, arc, dmarc, authres, seal }
}
END

# The fields of a message with this name, unfolded.
sub fields {
	my ($text, $name) = @_;
	my ($header) = $text =~ /\A(.*?)\r?\n\r?\n/s or return;

	$header =~ s/\r?\n(?=[ \t])//g;
	return $header =~ /^\Q$name\E[ \t]*:[ \t]*(.*?)\r?$/img;
}

# Sends messages, many on one connection: number => text; returns number => text as
# it was delivered.
sub send_all {
	my ($gate, $port, %messages) = @_;
	my (%got, %left, $client);
	my %known = map { $_ => 1 } glob "$gate->{dir}/mail/new/*";
	my $count = 0;

	for my $number (sort { $a <=> $b } keys %messages) {
		if ($count++ % 500 == 0) {
			$client->close if $client;
			$client = new_smtp(port => $port);
			$client->command('EHLO client.test');
		}
		$client->command('MAIL FROM:<>');
		$client->command("RCPT TO:<n$number\@example.test>");
		$client->command('DATA');
		my $data = $messages{$number} =~ s/^\./../mgr;
		$client->send("$data.\r\n");
		my $reply = $client->reply;
		if ($reply =~ /^250/) {
			$left{$number} = 1;
		} else {
			diag("$number: $reply");
		}
	}
	$client->close;
	wait_for('all messages', sub {
		for my $path (glob "$gate->{dir}/mail/new/*") {
			next if $known{$path}++;
			my $text = read_file($path);
			next unless $text =~ /^Delivered-To: .*?n(\d+)\@/m;
			$got{$1} = $text;
			delete $left{$1};
		}
		return !%left;
	}, 60);
	return %got;
}

sub arc_result {
	my ($text) = @_;
	my ($field) = fields($text, 'Authentication-Results');

	return ($field // '') =~ /\barc=(\w+)/ ? $1 : 'nothing';
}

my $number = 0;

# Where we differ from dkimpy, on purpose: name pattern, its verdict, ours, why.
my @differences = (
	[ qr/: (?:sets upside down|fields sorted)$/, 'fail', 'pass',
	    'dkimpy hashes sets as they stand, RFC 8617, 5.1.1, by their i=' ],
);

# Chains that we made, for the damage to come.
my @ours;
{
	my %texts = (0 => message(From => 'x@plain.test'),
	    1 => message(From => 'x@plain.test', body => ''),
	    2 => message(From => 'x@plain.test', Subject => "one\r\n two",
	    body => "..a  b \t\r\n\r\n\r\n"));
	my %first = send_all($hop, $hop->{port}, %texts);
	my $again = { map { $_ => $first{$_} =~ s/\r?\n/\r\n/gr }
	    keys %first };
	my %second = send_all($hop, $hop->{port}, %$again);

	for my $got (\%first, \%second) {
		push @ours, write_file('ours' . @ours . '.eml',
		    $got->{$_} =~ s/\r?\n/\r\n/gr) for sort keys %$got;
	}
	my @verdicts = split /\n/, dkim_python('', 'arc-verify', $keys, @ours);
	is_deeply(\@verdicts, [ ('pass') x 6 ],
	    'dkimpy validates what we seal, one hop and two') or
	    diag(read_file($ours[0]), read_file($ours[3]));
	my ($seal) = fields(read_file($ours[3]), 'ARC-Seal');
	like($seal, qr/^i=2; a=rsa-sha256; cv=pass;\s+d=hop\.test;\s+s=s; /,
	    'the second set says that the first passes');
	my ($results) = fields(read_file($ours[3]),
	    'ARC-Authentication-Results');
	like($results, qr/^i=2; mx\.example\.test;.*\barc=pass/,
	    'and what we found');
}

# Both judge the same messages.
{
	my $dir = test_dir() . '/cases';
	my (%want, %name, %messages, %seen, @wrong);

	mkdir $dir;
	for (split /\n/, dkim_python('', 'arc-cases', $list, $keys, 'a',
	    'list.test', $dir, @ours)) {
		my ($number, $verdict, $name) = /^(\d+) (\w+) (.*)/ or next;
		$want{$number} = $verdict;
		$name{$number} = $name;
		$messages{$number} = read_file("$dir/$number.eml");
	}
	my %got = send_all($judge, $judge->{port}, %messages);
	my ($agreed, %explained) = (0);
	for my $number (sort { $a <=> $b } keys %want) {
		my $result = arc_result($got{$number} // '');
		my ($known) = grep { $name{$number} =~ $differences[$_][0] &&
		    $want{$number} eq $differences[$_][1] &&
		    $result eq $differences[$_][2] } 0 .. $#differences;

		$seen{$want{$number}}++;
		if ($result eq $want{$number}) {
			$agreed++;
		} elsif (defined $known) {
			$explained{$known}++;
		} else {
			push @wrong, "$number $name{$number}: dkimpy " .
			    "$want{$number}, we $result";
		}
	}
	is(@wrong, 0, 'no difference that is not explained') or
	    diag(join "\n", @wrong[0 .. ($#wrong < 40 ? $#wrong : 40)]);
	cmp_ok(scalar keys %want, '>=', 200, 'there were cases enough');
	cmp_ok($seen{pass}, '>=', 100, 'and good ones among them');
	note("agreed on $agreed of " . keys(%want) . ' (' . join(', ',
	    map { "$seen{$_} $_" } sort keys %seen) . ')');
	for my $i (0 .. $#differences) {
		ok($explained{$i}, "still differs: $differences[$i][3]");
		note(($explained{$i} // 0) . " times: $differences[$i][3]");
	}
}

# A message that somebody seals; he says what he found.
sub sealed {
	my ($text, $domain, $results) = @_;

	return dkim_python("Authentication-Results: mx.$domain; $results\r\n" .
	    $text, 'arc-sign', $list, 'a', $domain, "mx.$domain");
}

# The last one's answer, and the results that it wrote.
sub at_last {
	my ($port, $text, %more) = @_;
	my $id = 'w' . $number++ . '@sender.test';
	my $client = new_smtp(port => $port);
	my $reply = $client->deliver(from => 'x@bank.test', %more,
	    data => "X-Id: $id\r\n$text");

	$client->close;
	return ($reply, '') unless $reply =~ /^250 .*queued as (\w+)/;
	$last->wait_log(qr/$1: (?:to=<.*status=|.*\(hold\))/);
	my ($got) = grep { /^X-Id: \Q$id\E/m } mailbox("$last->{dir}/mail");
	return ($reply, (fields($got // '', 'Authentication-Results'))[0] //
	    'held');
}

{
	my $bank = message(From => 'Bob <bob@bank.test>');
	my $good = 'dmarc=pass header.from=bank.test';
	my $overridden = qr/arc=pass\s.*policy\.trust=dmarc.*
	    dmarc=fail\s\([^)]*local\ policy:\ arc\ sealed\ by\ list\.test\).*
	    policy\.dmarc=none.*policy\.override=arc/x;
	my @cases = (
		[ 'no chain', $bank, qr/^550 5\.7\.1 .*DMARC/ ],
		[ 'a trusted sealer', sealed($bank, 'list.test', $good),
		    qr/^250/, $overridden ],
		[ 'an untrusted sealer', sealed($bank, 'evil.test', $good),
		    qr/^550 5\.7\.1 .*DMARC/ ],
		[ 'a trusted sealer who did not find that DMARC passed',
		    sealed($bank, 'list.test', 'dmarc=fail'), qr/^550/ ],
		[ 'a trusted sealer behind whom is an untrusted one',
		    sealed(sealed($bank, 'list.test', $good), 'evil.test',
		    "arc=pass; $good"), qr/^550/ ],
		[ 'a trusted sealer who forwards what another made up',
		    sealed(sealed($bank, 'evil.test', $good), 'list.test',
		    'arc=pass; dmarc=fail'), qr/^550/ ],
		[ 'two trusted ones, the first saw it pass',
		    sealed(sealed($bank, 'list.test', $good), 'list.test',
		    'arc=pass; dmarc=fail'), qr/^250/, $overridden ],
		[ 'a body changed since', sealed($bank, 'list.test', $good) =~
		    s/a test/a trick/r, qr/^550/ ],
		[ 'another author since', sealed($bank, 'list.test', $good) =~
		    s/bob\@bank/eve\@bank/r, qr/^550/ ],
	);
	for my $case (@cases) {
		my ($name, $text, $reply, $results) = @$case;
		my @got = at_last($port{heeds}, $text);

		like($got[0], $reply, "$name: the answer");
		like($got[1], $results, "$name: the results") if $results;
		@got = at_last($port{ignores}, $text);
		like($got[0], qr/^550/, "$name: without arc it is refused");
	}
	my $hold = message(From => 'Bob <bob@hold.test>');
	my $sealed = sealed($hold, 'list.test', $good);
	like((at_last($port{heeds}, $hold))[1], qr/^held$/,
	    'p=quarantine: held');
	like((at_last($port{heeds}, $sealed))[1], qr/policy\.override=arc/,
	    'p=quarantine: a trusted sealer lets it pass');
}

# Two hops.  At the first SPF and so DMARC pass; behind it only ARC can.
{
	my $count = 0;
	my $forward = sub {
		my ($to, $text) = @_;
		my $client = bless { in => '', timeout => 20,
		    socket => IO::Socket::INET->new(PeerPort => $hop->{port},
		    PeerAddr => '127.0.0.1', LocalAddr => '127.0.0.2') },
		    'Millgate::Test::Smtp';
		$client->reply;
		my $reply = $client->deliver(from => 'bob@bank.test',
		    to => $to, data => $text);
		$client->close;
		like($reply, qr/^250/, "$to: the first hop takes it");
		my ($id) = $reply =~ /queued as (\w+)/;
		return $hop->wait_log(qr/$id: to=<.*(status=.*)/);
	};
	my $text = message(From => 'Bob <bob@bank.test>',
	    'Message-ID' => '<two@bank.test>');
	like($forward->('carol@fwd.test', $text), qr/^status=sent/,
	    'the next hop takes it for the seal of the first');
	my $got = wait_for('the message', sub {
		(grep { /two\@bank/ } mailbox("$last->{dir}/mail"))[0];
	});
	my ($results) = fields($got, 'Authentication-Results');
	like($results, qr/spf=fail.*arc=pass.*smtp\.remote-ip=127\.0\.0\.1
	    .*policy\.sealer=hop\.test.*dmarc=fail.*policy\.override=arc/x,
	    'and says so');
	like((fields($got, 'ARC-Authentication-Results'))[0],
	    qr/^i=1; mx\.example\.test;.*spf=pass.*arc=none.*dmarc=pass/,
	    'the first hop found that DMARC passed');
	like($forward->('carol@blind.test', $text),
	    qr/^status=bounced.*DMARC/, 'one that knows no ARC refuses it');
}

# A chain that is broken when it comes.
{
	my $broken = sealed(message(From => 'x@plain.test'), 'list.test',
	    'dmarc=none') =~ s/a test/a trick/r;
	my %first = send_all($hop, $hop->{port}, 1 => $broken);
	like((fields($first{1}, 'ARC-Seal'))[0], qr/^i=2; .*cv=fail;/,
	    'a broken chain is never sealed as one that passes');
	my %second = send_all($hop, $hop->{port}, 1 => $first{1} =~
	    s/\r?\n/\r\n/gr);
	is(scalar(() = fields($second{1}, 'ARC-Seal')), 2,
	    'one that has ended gets no more sets');
	is(arc_result($second{1}), 'fail', 'and stays broken');
	my $full = sealed(message(From => 'x@plain.test'), 'list.test',
	    'dmarc=none') =~ s/\bi=1;/i=50;/gr;
	%first = send_all($hop, $hop->{port}, 1 => $full);
	is(scalar(() = fields($first{1}, 'ARC-Seal')), 1,
	    'nor does one that is full');
}

# What cannot seal is refused before anything starts.
for my $case ([ 'an Ed25519 key', qq(key = "$ed"), qr/not RSA/ ],
    [ 'no key', '', qr/key is not set/ ],
    [ 'a field that ARC must not sign', qq(key = "$ours" ) .
    'headers = { From, ARC-Seal }', qr/must not sign/ ],
    [ 'a title that another host has', qq(key = "$ours" }\n) .
    "dkim_sign seal { domains = { hop.test } selector = s key = \"$ours\"",
    qr/has this title/ ]) {
	my ($name, $options, $want) = @$case;
	my $conf = write_file('bad.conf', <<"END");
hostname = mx.example.test
listener smtp { address = { "127.0.0.1:$port{fail}" } filters = { seal } }
arc_seal seal { domain = hop.test selector = s $options }
END
	my ($status, $output) = run_command(build_dir() .
	    '/gateway/millgate', '-c', $conf, '-n');
	is($status, 78, "$name: refused");
	like($output, $want, "$name: why");
}

is(scalar($hop->children('host')), 1, 'the key is in a process of its own');
is($_->stop, 0, "$_->{name} stops well") for $hop, $last, $judge;
ok(sanitizers_silent($_->log), "$_->{name}: no fault found") for $hop, $last, $judge;
done_testing;
