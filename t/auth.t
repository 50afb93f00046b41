#!/usr/bin/perl
# SPF, DKIM and DMARC of mail that comes in by SMTP, with a name server of our
# own: what Authentication-Results says, and what becomes of the message.
use strict;
use warnings;
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(time);

my ($rsa, $rsa_record) = dkim_key('rsa', 2048);
my ($ed, $ed_record) = dkim_key('ed');

# All clients come from 127.0.0.1.  Each domain: its SPF and DMARC records.
my %domains = (
	'ours.test' => [ 'v=spf1 ip4:127.0.0.1 -all', 'v=DMARC1; p=reject' ],
	'foreign.test' => [ 'v=spf1 ip4:192.0.2.1 -all',
	    'v=DMARC1; p=reject' ],
	'hold.test' => [ 'v=spf1 -all', 'v=DMARC1; p=quarantine' ],
	'excused.test' => [ 'v=spf1 -all', 'v=DMARC1; p=reject' ],
	'watch.test' => [ 'v=spf1 ~all', 'v=DMARC1; p=none' ],
	'broken.test' => [ 'v=spf1 foo:bar -all' ],
	'plain.test' => [],
	'strict.test' => [ 'v=spf1 include:ours.test -all',
	    'v=DMARC1; p=reject; aspf=s' ],
	'refused.test' => [ 'v=spf1 -all exp=ours.refused.test',
	    'v=DMARC1; p=none' ],
	'later.test' => [ 'v=spf1 ip4:127.0.0.1 -all', 'v=DMARC1; p=reject' ],
	'never.test' => [ 'v=spf1 ip4:127.0.0.1 -all', 'v=DMARC1; p=reject' ],
);

sub zone {
	my ($spf, $dmarc) = @_;

	return [ (map { "$_ TXT \"$spf\"" } $spf ? ('@', 'sub') : ()),
	    $dmarc ? "_dmarc TXT \"$dmarc\"" : (),
	    "rsa._domainkey TXT $rsa_record", "ed._domainkey TXT $ed_record",
	    'revoked._domainkey TXT "v=DKIM1; p="',
	    'ours TXT "%{c} may not send as %{d}, says %{r}"' ];
}

my $dns = start_dns(test => [],
    map { $_ => zone(@{ $domains{$_} }) } keys %domains);
my $gate = start_millgate(text => <<"END");
gateways = 1
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs} }
dns_timeout = 1s
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { spf, dkim, dmarc, authres }
}
dmarc { override = { "excused.test = none", "unseen.test = none",
	"192.0.2.0/24 = reject" } }
END

my $number = 0;

# Sends a message: (reply, the delivered text or '', seconds for the reply).
sub pass_through {
	my ($from, $text) = @_;
	my $id = 'n' . $number++ . '@auth.test';
	my $client = $gate->smtp(timeout => 30);

	$text =~ s/\r\n\r\n/\r\nX-Number: $id\r\n\r\n/;
	my $start = time;
	my $reply = $client->deliver(from => $from, data => $text,
	    helo => 'client.nowhere.test');
	my $seconds = time - $start;
	$client->close;
	return ($reply, '', $seconds)
	    unless $reply =~ /^250 .*queued as (\w+)/;
	my $queue_id = $1;
	$gate->wait_log(qr/$queue_id: (?:to=<.*status=|.*\(hold\))/);
	my ($delivered) = grep { /^X-Number: \Q$id\E\r?$/m }
	    mailbox("$gate->{dir}/mail");
	return ($reply, $delivered // '', $seconds);
}

sub from {
	my ($domain, %more) = @_;
	return message(From => "Alice <alice\@$domain>", %more);
}

# Signed with selector and key of a domain; by default the author's.
sub signed {
	my ($domain, $selector, %more) = @_;
	my $signer = delete $more{signer} // $domain;
	my $key = $selector =~ /^ed/ ? $ed : $rsa;

	return dkim_python(from($domain, %more), 'sign', $key,
	    $selector =~ /^ed/ ? 'ed25519-sha256' : 'rsa-sha256', $selector,
	    $signer);
}

sub changed {
	my ($text, $what, $to) = @_;
	$text =~ s/$what/$to/ or die "nothing to change";
	return $text;
}

# The fields of a message with this name, unfolded; the first is the topmost.
sub fields {
	my ($text, $name) = @_;
	my ($header) = $text =~ /\A(.*?)\r?\n\r?\n/s or return;

	$header =~ s/\r?\n(?=[ \t])//g;
	return $header =~ /^\Q$name\E[ \t]*:[ \t]*(.*?)\r?$/img;
}

# "id", then "method=result type.name=value ..." for each result, sorted.
# Comments are left out, and header.b, which differs each time.
sub results {
	my ($value) = @_;
	my ($id, @results);
	my @tokens = $value =~
	    /(\((?:[^()\\]|\\.)*\) | ; | (?:"(?:[^"\\]|\\.)*" | [^\s;"(])+)/gx;
	my @parts = ([]);

	for my $token (@tokens) {
		next if $token =~ /^\(/;
		if ($token eq ';') {
			push @parts, [];
		} else {
			push @{ $parts[-1] }, $token;
		}
	}
	$id = shift @{ shift @parts };
	return ($id, sort map { join ' ', grep { !/^header\.b=/ } @$_ } @parts);
}

sub dkim {
	my ($result, $domain, $selector) = @_;
	my $algorithm = $selector =~ /^ed/ ? 'ed25519-sha256' : 'rsa-sha256';

	return "dkim=$result header.d=$domain header.i=\@$domain " .
	    "header.s=$selector header.a=$algorithm";
}

sub spf {
	my ($result, $domain) = @_;
	return "spf=$result smtp.mailfrom=alice\@$domain";
}

sub dmarc {
	my ($result, $domain, $action, $policy) = @_;
	return "dmarc=$result header.from=$domain" . (defined $action ?
	    " policy.dmarc=$action polrec.p=$policy polrec.domain=$domain" :
	    '');
}

# Each: name, domain of MAIL FROM, message, then what Authentication-Results
# reports; or, for what isn't delivered, the reply or "held".
my @cases = (
	[ 'SPF passes, aligned', 'ours.test', from('ours.test'),
	    spf('pass', 'ours.test'), 'dkim=none',
	    dmarc('pass', 'ours.test', 'none', 'reject') ],
	[ 'SPF passes for a subdomain: relaxed alignment', 'sub.ours.test',
	    from('ours.test'), spf('pass', 'sub.ours.test'), 'dkim=none',
	    dmarc('pass', 'ours.test', 'none', 'reject') ],
	[ 'strict alignment takes no subdomain', 'sub.strict.test',
	    from('strict.test'), qr/^550 5\.7\.1 / ],
	[ 'SPF passes by include', 'strict.test', from('strict.test'),
	    spf('pass', 'strict.test'), 'dkim=none',
	    dmarc('pass', 'strict.test', 'none', 'reject') ],
	[ 'DKIM with RSA passes where SPF fails', 'foreign.test',
	    signed('foreign.test', 'rsa'), spf('fail', 'foreign.test'),
	    dkim('pass', 'foreign.test', 'rsa'),
	    dmarc('pass', 'foreign.test', 'none', 'reject') ],
	[ 'DKIM with Ed25519 passes', 'foreign.test',
	    signed('foreign.test', 'ed'), spf('fail', 'foreign.test'),
	    dkim('pass', 'foreign.test', 'ed'),
	    dmarc('pass', 'foreign.test', 'none', 'reject') ],
	[ 'two signatures, one by another domain', 'foreign.test',
	    dkim_python(signed('foreign.test', 'rsa'), 'sign', $ed,
	    'ed25519-sha256', 'ed', 'plain.test'),
	    spf('fail', 'foreign.test'), dkim('pass', 'foreign.test', 'rsa'),
	    dkim('pass', 'plain.test', 'ed'),
	    dmarc('pass', 'foreign.test', 'none', 'reject') ],
	[ 'p=reject, neither aligned', 'plain.test', from('foreign.test'),
	    qr/^550 5\.7\.1 .*DMARC.*foreign\.test/ ],
	[ 'p=reject, a pass that is not aligned', 'ours.test',
	    signed('foreign.test', 'rsa', signer => 'plain.test'),
	    qr/^550 5\.7\.1 / ],
	[ 'p=reject, the body was changed', 'foreign.test',
	    changed(signed('foreign.test', 'rsa'), 'a test', 'a trick'),
	    qr/^550 5\.7\.1 / ],
	[ 'p=quarantine', 'hold.test', from('hold.test'), 'held' ],
	[ 'p=reject, but a rule of ours', 'excused.test',
	    from('excused.test'), spf('fail', 'excused.test'), 'dkim=none',
	    dmarc('fail', 'excused.test', 'none', 'reject') .
	    ' policy.override=domain' ],
	[ 'p=none', 'watch.test', from('watch.test'),
	    spf('softfail', 'watch.test'), 'dkim=none',
	    dmarc('fail', 'watch.test', 'none', 'none') ],
	[ 'a changed body', 'watch.test',
	    changed(signed('watch.test', 'rsa'), 'a test', 'a trick'),
	    spf('softfail', 'watch.test'), dkim('fail', 'watch.test', 'rsa'),
	    dmarc('fail', 'watch.test', 'none', 'none') ],
	[ 'a changed field', 'watch.test',
	    changed(signed('watch.test', 'ed'), 'Subject: test',
	    'Subject: trick'), spf('softfail', 'watch.test'),
	    dkim('fail', 'watch.test', 'ed'),
	    dmarc('fail', 'watch.test', 'none', 'none') ],
	[ 'white space that relaxed leaves out', 'watch.test',
	    changed(signed('watch.test', 'ed'), 'Subject: test',
	    'SUBJECT:  test '), spf('softfail', 'watch.test'),
	    dkim('pass', 'watch.test', 'ed'),
	    dmarc('pass', 'watch.test', 'none', 'none') ],
	[ 'an unknown selector', 'plain.test',
	    signed('plain.test', 'unknown'), spf('none', 'plain.test'),
	    dkim('permerror', 'plain.test', 'unknown'),
	    dmarc('none', 'plain.test') ],
	[ 'a revoked key', 'plain.test', signed('plain.test', 'revoked'),
	    spf('none', 'plain.test'),
	    dkim('permerror', 'plain.test', 'revoked'),
	    dmarc('none', 'plain.test') ],
	[ 'a key of another kind', 'plain.test',
	    changed(signed('plain.test', 'rsa'), 's=rsa;', 's=ed;'),
	    spf('none', 'plain.test'), dkim('permerror', 'plain.test',
	    'ed') =~ s/ed25519-sha256/rsa-sha256/r,
	    dmarc('none', 'plain.test') ],
	[ 'SPF with a syntax error', 'broken.test', from('broken.test'),
	    spf('permerror', 'broken.test'), 'dkim=none',
	    dmarc('none', 'broken.test') ],
	[ 'two authors get the stricter policy', 'ours.test',
	    changed(from('ours.test'), "From: .*\r\n", "From: a\@ours.test\r" .
	    "\nFrom: b\@foreign.test\r\n"), qr/^550 5\.7\.1 / ],
);

for my $case (@cases) {
	my ($name, $domain, $text, @want) = @$case;
	my ($reply, $delivered) = pass_through("alice\@$domain", $text);

	if (ref $want[0]) {
		like($reply, $want[0], "$name: refused");
		my ($reference) = $reply =~ /\[[\w-]+ (\w+)\]/;
		ok(defined $reference &&
		    $gate->wait_log(qr/$reference: .*reject/),
		    "$name: the log has the reply's reference") or
		    diag($reply);
		$gate->tells([ 'explain', $reference ],
		    qr/dmarc=(?:fail|permerror)/,
		    "$name: by the reference its trace is found");
		next;
	}
	if ($want[0] eq 'held') {
		my ($id) = $reply =~ /^250 .*queued as (\w+)/;
		ok(defined $id && $gate->log =~ /$id: .*\(hold\)/,
		    "$name: held") or diag($reply);
		is($delivered, '', "$name: not delivered");
		$gate->tells([ 'queue', 'show', $id ],
		    qr/^held because: DMARC policy of \Q$domain/m,
		    "$name: the queue shows why");
		$gate->tells([ 'explain', $id ], qr/dmarc=fail/,
		    "$name: the trace, too");
		is(($gate->ctl('queue', 'release', $id))[0], 0,
		    "$name: released");
		ok($gate->wait_log(qr/$id: to=<.*status=sent/),
		    "$name: and delivered");
		next;
	}
	my ($id, @got) = results((fields($delivered,
	    'Authentication-Results'))[0] // '');
	is($id, 'mx.example.test', "$name: our id") or diag($reply);
	is_deeply(\@got, [ sort @want ], "$name: results") or
	    diag(explain(\@got), explain([ sort @want ]), $delivered);
}

# A null sender: SPF is HELO's.
{
	my ($reply, $delivered) = pass_through('', from('plain.test'));
	my ($id, @got) = results((fields($delivered,
	    'Authentication-Results'))[0] // '');

	is_deeply(\@got, [ 'dkim=none', dmarc('none', 'plain.test'),
	    'spf=none smtp.helo=client.nowhere.test' ],
	    'a null sender is checked by HELO');
}

# Fields that claim to be ours; whoever believes them is ours alone to tell.
{
	my @forged = (
		"Authentication-Results: mx.example.test; spf=pass",
		"authentication-results: MX.EXAMPLE.test; dmarc=pass",
		"Authentication-Results : mx.example.test; dkim=pass",
		"Authentication-Results: mx.example.test 1; spf=pass",
		"Authentication-Results: mx.example.test.; spf=pass",
		"Authentication-Results: (who (else)) mx.example.test; none",
		"Authentication-Results: \"mx.example.test\"; spf=pass",
		"Authentication-Results: \"mx\\.example.test\"; spf=pass",
		"Authentication-Results:\r\n\tmx.example.test;\r\n spf=pass",
		"Authentication-Results: mx.example.test(x); spf=pass",
		"Authentication-Results: mx.example.test",
		"Authentication-Results: other.test mx.example.test; spf=pass",
		"Authentication-Results: mx.(x)example.test; spf=pass",
		"Authentication-Results: ;mx.example.test; spf=pass",
	);
	my @kept = (
		"mail.example.test; spf=pass",
		"mx.example.test.evil.test; spf=pass",
		"xmx.example.test; dkim=pass",
	);
	my $text = join('', map { "$_\r\n" } @forged,
	    map { "Authentication-Results: $_" } @kept) . from('ours.test');
	my ($reply, $delivered) = pass_through('alice@ours.test', $text);
	my ($first, @others) = fields($delivered, 'Authentication-Results');

	my ($id, @got) = results($first // '');
	is_deeply(\@got, [ 'dkim=none', dmarc('pass', 'ours.test', 'none',
	    'reject'), spf('pass', 'ours.test') ],
	    'forged results: ours is the first') or diag($delivered);
	is_deeply(\@others, \@kept,
	    'forged results: only those of others are left') or
	    diag(explain(\@others));
}

# Another gateway: DKIM by libopendkim, SPF refuses and writes its own field.
{
	my $other = start_millgate(text => <<"END");
gateways = 1
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs} }
dns_timeout = 1s
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { spf, dkim, authres }
}
dkim { engine = libopendkim }
spf { fail = reject permerror = reject received_spf = yes }
END
	my $send = sub {
		my ($from, $text) = @_;
		my $client = $other->smtp(timeout => 30);
		my $reply = $client->deliver(from => $from, data => $text,
		    helo => 'client.nowhere.test');
		$client->close;
		return $reply;
	};

	like($send->('alice@refused.test', from('refused.test')), qr/^550
	    \ 5\.7\.23\ .*explained\ by\ refused\.test:\ 127\.0\.0\.1\ may
	    \ not\ send\ as\ refused\.test,\ says\ mx\.example\.test/x,
	    'SPF fail: refused, and the domain says why');
	like($send->('alice@broken.test', from('broken.test')),
	    qr/^550 5\.7\.24 /, 'SPF permerror: refused');
	like($send->('alice@watch.test', from('watch.test')), qr/^250 /,
	    'SPF softfail: accepted');
	my $text = "Received-SPF: pass (mx.example.test: forged)\r\n" .
	    signed('ours.test', 'rsa');
	like($send->('alice@ours.test', $text), qr/^250 /,
	    'SPF pass: accepted');
	my ($delivered) = wait_for("the message", sub {
		(grep { /forged/ } mailbox("$other->{dir}/mail"))[0] });
	my @received = fields($delivered // '', 'Received-SPF');
	like($received[0],
	    qr/^pass .*identity="mailfrom";.*envelope-from="alice\@ours\.test";/,
	    'Received-SPF: ours is on top');
	like($received[1], qr/^none .*identity="helo";/,
	    'Received-SPF: HELO is the second');
	is($received[2], 'pass (mx.example.test: forged)',
	    'Received-SPF: what came is left below');
	my (undef, @got) = results((fields($delivered // '',
	    'Authentication-Results'))[0] // '');
	is_deeply(\@got, [ dkim('pass', 'ours.test', 'rsa'),
	    spf('pass', 'ours.test') ], 'libopendkim: pass') or
	    diag(explain(\@got));
	is($other->stop, 0, 'the other gateway stops well');
	ok(sanitizers_silent($other->log), 'and its sanitizers are silent');
}

# A name server that says nothing, and one that is gone.  Fresh questions, as
# answers are cached; ours.test and its policy are known.
{
	my @servers = process_tree($dns->{pid});
	kill 'STOP', @servers;
	my ($reply, undef, $seconds) = pass_through('alice@later.test',
	    signed('later.test', 'rsa'));

	like($reply, qr/^451 4\.7\.0 .*DMARC/,
	    'silent DNS: a policy that cannot be had defers');
	ok($seconds < 5, 'silent DNS: no more than a few time limits') or
	    diag("$seconds s");
	ok($gate->log =~ /filter=$_ $_=temperror reason=/,
	    "silent DNS: the log tells it of $_") for qw(spf dkim dmarc);

	($reply) = pass_through('alice@plain.test',
	    signed('foreign.test', 'unasked'));
	like($reply, qr/^451 4\.7\.0 .*DMARC/,
	    'silent DNS: an aligned key that cannot be had defers');

	kill 'KILL', @servers;
	stop_process($dns->{pid}, 'KILL');
	($reply, undef, $seconds) = pass_through('alice@never.test',
	    from('never.test'));
	like($reply, qr/^451 4\.7\.0 .*DMARC/, 'dead DNS: deferred');
	# Where a rule lets it pass in any case, it does not have to wait.
	my ($excused, $delivered) = pass_through('alice@unseen.test',
	    from('unseen.test'));
	my (undef, @got) = results((fields($delivered,
	    'Authentication-Results'))[0] // '');
	like($excused, qr/^250 /, 'dead DNS: a rule spares the wait');
	is_deeply(\@got, [ 'dkim=none', dmarc('temperror', 'unseen.test'),
	    spf('temperror', 'unseen.test') ], 'dead DNS: temperror') or
	    diag(explain(\@got));
	ok($seconds < 5, 'dead DNS: not delayed') or diag("$seconds s");
}

is($gate->stop, 0, 'stops well');
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
