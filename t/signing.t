#!/usr/bin/perl
# The filter dkim_sign in its host: what leaves is signed so that dkimpy and
# another Millgate verify it; nothing leaves unsigned when the host is gone; a
# key that cannot sign is refused before anything starts.
use strict;
use warnings;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my ($rsa, $rsa_record) = dkim_key('rsa', 2048);
my ($ed, $ed_record) = dkim_key('ed');
my $keys = write_file('keys', join '', map { s/" "|"//gr }
    "rsa._domainkey.sender.test $rsa_record\n",
    "ed._domainkey.sender.test $ed_record\n",
    "rsa._domainkey.example.test $rsa_record\n",
    "ed._domainkey.example.test $ed_record\n");
my $dns = start_dns(test => [], 'sender.test' => [
    "rsa._domainkey TXT $rsa_record", "ed._domainkey TXT $ed_record" ],
    'example.test' => [
    "rsa._domainkey TXT $rsa_record", "ed._domainkey TXT $ed_record" ]);

# Where mail goes to: a Millgate that verifies.  It signs for a listener, too,
# though all its clients are strangers.
my %port = map { $_ => free_port() } qw(stranger submission simple plain bare);
my $receiver = start_millgate(text => <<"END");
gateways = 1
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs} }
dns_timeout = 2s
route "*" { via = { "maildir:\@DIR\@/mail" } }
dkim_sign stranger {
	domains = { sender.test }  selector = rsa  key = "$rsa"
	listeners = { submission }
}
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { dkim, authres }
}
listener stranger {
	address = { "127.0.0.1:$port{stranger}" }
	hostname_lookup = no
	filters = { stranger }
}
listener submission {
	address = { "127.0.0.1:$port{submission}" }
	hostname_lookup = no
	filters = { stranger }
}
END

my $sender = start_millgate(text => <<"END");
gateways = 1
memory_limit = 64K
dns_forwarders = { "127.0.0.1\@9" }
dns_timeout = 100ms
route "*" { via = { "smtp:127.0.0.1:$receiver->{port}" } }
route "gone.test" { via = { "error:5.1.1 gone" } }
dkim_sign example {
	domains = { sender.test, example.test }  selector = rsa  key = "$rsa"
}
dkim_sign second {
	domains = { sender.test, example.test }  selector = ed  key = "$ed"
	oversign = { From, Subject, To }
}
dkim_sign simple {
	domains = { sender.test, example.test }  selector = rsa  key = "$rsa"
	canonicalization = simple/simple
}
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { example, second }
}
listener simple {
	address = { "127.0.0.1:$port{simple}" }
	hostname_lookup = no
	filters = { simple }
}
listener bare {
	address = { "127.0.0.1:$port{bare}" }
	hostname_lookup = no
}
END

my $number = 0;

# Sends a message: (reply, text as it was delivered in the end).
sub pass_through {
	my ($port, $gate, %options) = @_;
	my $name = 'n' . $number++;
	my $client = new_smtp(port => $port);

	$options{data} //= message();
	$options{data} = "X-Number: $name\r\n$options{data}";
	my $reply = $client->deliver(%options);
	$client->close;
	return ($reply) unless $reply =~ /^250 .*queued as (\w+)/;
	$gate->wait_log(qr/$1: removed/);
	my $mail = wait_for("message $name", sub {
		(grep { /^X-Number: $name\r?$/m }
		    mailbox("$receiver->{dir}/mail"))[0];
	});
	# Return-Path and Delivered-To came behind the signature.
	return ($reply, $mail);
}

sub verified {
	my ($mail) = @_;
	return split /\n/, dkim_python($mail, 'verify', $keys);
}

# What the receiver found; unfolded, without comments.
sub results {
	my ($mail) = @_;
	my ($field) = $mail =~
	    /^Authentication-Results: (.*(?:\r?\n[ \t].*)*)/m or return '';

	$field =~ s/\r?\n[ \t]/ /g;
	return $field;
}

# Each: name, message.
my $long = join '', map { "line $_ of a long body\r\n" } 1 .. 20000;
my @cases = (
	[ 'a plain message', message() ],
	[ 'no body', message(body => '') ],
	[ 'empty lines at the end', message(body => "text\r\n\r\n\r\n\r\n") ],
	[ 'lines that begin with dots', message(body => ".\r\n..x\r\n.y\r\n") ],
	[ 'white space', message(Subject => 'a  b	c',
	    body => "tab\t \r\n  two  spaces \r\n") ],
	[ 'folded fields', message(Subject => "one\r\n two\r\n\tthree",
	    To => "Bob <bob\@example.test>,\r\n carol\@example.test") ],
	[ 'fields that stand twice', message(body => "x\r\n") =~
	    s/^/Comments: one\r\nComments: two\r\nReceived: from x\r\n/r ],
	[ 'eight bits', message(body => "Gr\xc3\xbc\xc3\x9fe\r\n") ],
	[ 'more than fits into memory', message(body => $long) ],
);

for my $case (@cases) {
	my ($name, $text) = @$case;
	my ($reply, $mail) = pass_through($sender->{port}, $sender,
	    data => $text);
	my @verdicts = verified($mail // '');

	is(scalar(grep { /^pass / } @verdicts), 2,
	    "$name: two signatures that dkimpy verifies") or
	    diag($reply, join "\n", @verdicts);
	my $results = results($mail // '');
	my @passes = $results =~ /dkim=pass[^;]* header\.s=(rsa|ed)/g;
	is_deeply([ sort @passes ], [ 'ed', 'rsa' ],
	    "$name: the next Millgate verifies both") or diag($results);

	($reply, $mail) = pass_through($port{simple}, $sender,
	    data => $text);
	@verdicts = verified($mail // '');
	is_deeply([ map { /^(pass) .*c=(.*)/ } @verdicts ],
	    [ 'pass', 'simple/simple' ], "$name: by simple, too") or
	    diag($reply, join "\n", @verdicts);
}

{
	my (undef, $mail) = pass_through($sender->{port}, $sender);
	my ($second, $first) = verified($mail);

	like($first, qr/a=rsa-sha256 d=sender\.test s=rsa c=relaxed/,
	    'RSA: algorithm, domain, selector');
	like($second, qr/a=ed25519-sha256 d=sender\.test s=ed/,
	    'Ed25519: algorithm, domain, selector');
	# More of them than there are: none can be added (RFC 6376, 8.15).
	for my $case ([ $first, 'from', 2 ], [ $first, 'subject', 1 ],
	    [ $second, 'from', 2 ], [ $second, 'subject', 2 ],
	    [ $second, 'to', 2 ]) {
		my ($line, $field, $times) = @$case;
		my ($names) = $line =~ /h=(\S+)/;
		is(scalar(grep { lc $_ eq $field } split /:/, $names), $times,
		    "h= names $field $times times");
	}
	my @bad = grep { /^pass/ } verified("From: Eve <e\@x.test>\r\n$mail");
	is(@bad, 0, 'a From field put on top breaks both');
	(my $changed = $mail) =~ s/this is a test/this is a trick/;
	is((grep { /^pass/ } verified($changed)), 0,
	    'a changed body breaks both');
}

# Whom it signs for.
for my $case ([ 'another domain', $sender->{port}, $sender, 0,
    from => 'x@other.test', data => message(From => 'x@other.test') ],
    [ 'a subdomain of ours', $sender->{port}, $sender, 2,
    data => message(From => 'x@mail.sender.test') ],
    [ 'a stranger with our domain', $port{stranger}, $receiver, 0 ],
    [ 'a listener for our users', $port{submission}, $receiver, 1 ]) {
	my ($name, $port, $gate, $want, %options) = @$case;
	my (undef, $mail) = pass_through($port, $gate, %options);

	is(scalar(grep { /^pass/ } verified($mail)), $want,
	    "$name: $want signatures");
}

# Bounces of our own, by the domain of MAILER-DAEMON's address.
sub bounce {
	my ($subject) = @_;
	my $client = new_smtp(port => $port{bare});

	like($client->deliver(to => 'x@gone.test',
	    from => 'alice@example.test',
	    data => message(Subject => $subject)), qr/^250 /, 'taken');
	$client->close;
	return wait_for("a bounce of $subject", sub {
		(grep { /^Subject: Undelivered Mail/m && /^Subject: $subject\r?$/m }
		    mailbox("$receiver->{dir}/mail"))[0];
	});
}
{
	my $mail = bounce('to nobody');
	my @verdicts = verified($mail);

	is(scalar(grep { /^pass .*d=example\.test/ } @verdicts), 3,
	    'a bounce: signed by each section') or diag(@verdicts);
	my $results = results($mail);
	is(scalar(() = $results =~ /dkim=pass/g), 3,
	    'a bounce: the next Millgate verifies them') or diag($results);
}

# A host that hangs: a bounce waits for it, then leaves with the others'
# signatures; those after it don't wait.
{
	my ($hung) = $sender->children('host');
	my $passed = sub { scalar(grep { /^pass/ } verified($_[0])) };

	kill 'STOP', $hung;
	is($passed->(bounce('to a hung host')), 2,
	    'hung: the others sign the bounce');
	$sender->logs(qr/sent without asking dkim_sign "\w+": its filter host is away/,
	    'hung: the log tells');
	my $start = time;
	is($passed->(bounce('to one still hung')), 2, 'still hung');
	cmp_ok(time - $start, '<', 6, 'still hung: not waited for again');
	kill 'CONT', $hung;
	is($passed->(bounce('to one that goes on')), 3, 'it goes on: all sign');
}

# Hosts that die.
{
	my @before = $sender->children('host');
	is(@before, 3, 'a host for each section');
	kill 'KILL', @before;
	# It may have died with the message in its hands.
	my ($reply, $mail) = pass_through($sender->{port}, $sender);
	like($reply, qr/^(?:250|451 4\.7\.1) /, 'killed: accepted or deferred');
	is(scalar(grep { /^pass/ } verified($mail)), 2,
	    'killed: not unsigned') if defined $mail;
	wait_for('new hosts', sub {
		my %now = map { $_ => 1 } $sender->children('host');
		return keys %now == 3 && !(grep { $now{$_} } @before);
	});
	($reply, $mail) = pass_through($sender->{port}, $sender);
	is(scalar(grep { /^pass/ } verified($mail // '')), 2,
	    'restarted: the next message is signed') or diag($reply);
	is(scalar(() = $sender->log =~ /host\[\d+\] ended: signal 9/g), 3,
	    'killed: the log says so');

	# As long as they are gone and cannot be reached.
	my @sockets = glob "$sender->{dir}/run/host-*";
	is(@sockets, 3, 'they listen on sockets') or diag(`ls -R $sender->{dir}`);
	kill 'STOP', $sender->{pid};
	kill 'KILL', $sender->children('host');
	rename $_, "$_.away" for @sockets;
	($reply) = pass_through($sender->{port}, $sender);
	like($reply, qr/^451 4\.7\.1 /, 'gone: deferred, not unsigned');
	ok($sender->log =~ /filter=example .*stage=/,
	    'gone: the log names the filter');
	rename "$_.away", $_ for @sockets;
	kill 'CONT', $sender->{pid};
	wait_for('a signature', sub {
		($reply, $mail) = pass_through($sender->{port}, $sender);
		return $reply =~ /^250/;
	});
	is(scalar(grep { /^pass/ } verified($mail)), 2,
	    'back: signed again');
}

# Keys that cannot sign.
{
	my (undef, $public) = run_command('openssl', 'pkey', '-in', $rsa,
	    '-pubout');
	my $pem = read_file($rsa);
	my @bad = (
		[ 'no such file', undef, qr/No such file/ ],
		[ 'an empty file', '', qr/private key/ ],
		[ 'not PEM', "hello\n", qr/private key/ ],
		[ 'a public key', $public, qr/private key/ ],
		[ 'a key cut off', substr($pem, 0, 800), qr/private key/ ],
		[ 'a key on another curve', (run_command('openssl', 'genpkey',
		    '-algorithm', 'EC', '-pkeyopt',
		    'ec_paramgen_curve:P-256'))[1], qr/RSA nor Ed25519/ ],
		[ 'a key of 512 bits', (run_command('sh', '-c', 'openssl ' .
		    'genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:512 ' .
		    '2>/dev/null'))[1], qr/1024 bits/ ],
	);
	for my $case (@bad) {
		my ($name, $text, $want) = @$case;
		my $path = test_dir() . '/bad.key';

		unlink $path;
		write_file($path, $text, 0644) if defined $text;
		my $conf = write_file('bad.conf', <<"END");
hostname = mx.example.test
listener smtp { address = { "127.0.0.1:$port{plain}" } filters = { sign } }
dkim_sign sign {
	domains = { sender.test }
	selector = sel
	key = "$path"
}
END
		my ($status, $output) = run_command(build_dir() .
		    '/gateway/millgate', '-c', $conf, '-n');
		is($status, 78, "$name: refused");
		like($output, qr/bad\.conf:[36]: .*(?i:key).*$want/,
		    "$name: file, line and reason");
		is(() = $output =~ /\n/g, 1, "$name: said once");
	}
}

for my $gate ($sender, $receiver) {
	is($gate->stop, 0, "$gate->{name} stops well");
	ok(sanitizers_silent($gate->log), "$gate->{name}: no fault found");
}
done_testing;
