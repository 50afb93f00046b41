#!/usr/bin/perl
# Signing tables of dkim_sign: several domains and keys, patterns, days, a
# rotation while mail is on its way, and what is wrong with a table.
use strict;
use warnings;
use MIME::Base64;
use Millgate::Peers;
use Millgate::Test;
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

sub day { return strftime('%Y-%m-%d', gmtime(time + 86400 * $_[0])) }

my (%path, %record);
($path{$_}, $record{$_}) = dkim_key($_, /^r/ ? 2048 : undef)
    for qw(r1 e1 r2 e2 r3);
my %at = ('r1' => 'sender.test', 'e1' => 'sender.test',
    'r2' => 'example.test', 'e2' => 'example.test', 'r3' => 'sender.test');
my $published = write_file('published', join '', map {
	my $key = $_;
	map { "$key._domainkey.$_ $record{$key}\n" =~ s/" "|"//gr }
	    qw(sender.test example.test news.sender.test alice.sender.test)
} sort keys %path);

my $table = write_file('table', <<"END", 0644);
# pattern	domain			selector  key file
sender.test	sender.test		r1	r1.key  # relative
sender.test	sender.test		e1	$path{e1}
.sender.test	sender.test		e1	e1.key
example.test	example.test		r2	r2.key
example.test	example.test		e2	e2.key
News\@sender.test news.sender.test	e2	e2.key
user:alice	alice.sender.test	e1	e1.key
sender.test	sender.test		past	r2.key	until @{[ day(-1) ]}
sender.test	sender.test		future	r2.key	from @{[ day(2) ]}
END

my $dovecot = start_dovecot(users => { alice => 'wonder' });
my %port = map { $_ => free_port() } qw(submission plain);
my $gate = start_millgate(text => <<"END");
gateways = 1
route "*" { via = { "maildir:\@DIR\@/mail" } }
dkim_sign many { keys = "$table" }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { many }
}
listener submission {
	address = { "127.0.0.1:$port{submission}" }
	hostname_lookup = no
	auth = "unix:$dovecot->{auth}"
	auth_without_tls = yes
	filters = { many }
}
END

my $number = 0;

# Sends a message and returns it as it was delivered.
sub pass_through {
	my (%options) = @_;
	my $name = 'n' . $number++;
	my $client = new_smtp(port => $options{port} // $gate->{port});

	if ($options{login}) {
		$client->command('EHLO client.test');
		$client->{greeted} = 1;
		like($client->command("AUTH PLAIN $options{login}"), qr/^235/,
		    'logged in');
	}
	$options{data} = "X-Number: $name\r\n" .
	    message(From => $options{author} // $options{from});
	like($client->deliver(%options), qr/^250/, "$name is taken");
	$client->close;
	return wait_for("message $name", sub {
		(grep { /^X-Number: $name\r?$/m }
		    mailbox("$gate->{dir}/mail"))[0];
	});
}

# The signatures that dkimpy verifies, from the top: "selector@domain".
sub signatures {
	my ($mail) = @_;
	return map { /^pass .*d=(\S+) s=(\S+)/ ? "$2\@$1" : "bad: $_" }
	    split /\n/, dkim_python($mail, 'verify', $published);
}

for my $case (
	[ 'a domain', [ qw(r1@sender.test e1@sender.test) ],
	    from => 'a@sender.test' ],
	[ 'another', [ qw(r2@example.test e2@example.test) ],
	    from => 'a@example.test' ],
	[ 'a subdomain', [ 'e1@sender.test' ], from => 'a@x.sender.test' ],
	[ 'one sender', [ 'e2@news.sender.test' ],
	    from => 'news@sender.test' ],
	[ 'one sender with a name', [ 'e2@news.sender.test' ],
	    from => 'a@example.test', author => 'N <NEWS@sender.test>' ],
	[ 'another author', [ qw(r2@example.test e2@example.test) ],
	    from => 'news@sender.test', author => 'a@example.test' ],
	[ 'the sender of a foreign author', [ 'e2@news.sender.test' ],
	    from => 'news@sender.test', author => 'a@other.test' ],
	[ 'nobody of ours', [], from => 'a@other.test' ],
	[ 'a user', [ 'e1@alice.sender.test' ], from => 'news@sender.test',
	    port => $port{submission},
	    login => encode_base64("\0alice\0wonder", '') ],
) {
	my ($name, $want, %options) = @$case;
	is_deeply([ signatures(pass_through(%options)) ], $want, $name);
}

# A rotation: the old key ended yesterday, the new one began today.
my $flying = pass_through(from => 'a@sender.test');
is_deeply([ signatures($flying) ], [ qw(r1@sender.test e1@sender.test) ],
    'before the switch: the old keys');
write_file('table', <<"END", 0644);
sender.test sender.test r1 r1.key until @{[ day(-1) ]}
sender.test sender.test r3 r3.key from @{[ day(0) ]} until @{[ day(9) ]}
END
$gate->ctl('reload');
wait_for('the new key', sub {
	my @now = signatures(pass_through(from => 'a@sender.test'));
	return "@now" eq 'r3@sender.test';
});
pass('after the switch: the new key alone');
is_deeply([ signatures($flying) ], [ qw(r1@sender.test e1@sender.test) ],
    'after the switch: what is on its way still verifies');

# A reload that would break it does nothing.
write_file('table', "sender.test sender.test r3 gone.key\n", 0644);
$gate->ctl('reload');
ok($gate->wait_log(qr/table:1: .*gone\.key: No such file/),
    'a bad table: the log says why');
is_deeply([ signatures(pass_through(from => 'a@sender.test')) ],
    [ 'r3@sender.test' ], 'a bad table: it goes on as before');

# What is wrong.
sub check {
	my ($text, $more) = @_;
	my $table = write_file('bad', $text, 0644);
	my $conf = write_file('bad.conf', <<"END");
hostname = mx.example.test
listener smtp { address = { "127.0.0.1:$port{plain}" } filters = { sign } }
dkim_sign sign {
	keys = "$table"
	@{[ $more // '' ]}
}
END
	return run_command(build_dir() . '/gateway/millgate', '-c', $conf,
	    '-n');
}
my (undef, $small) = run_command('sh', '-c', 'openssl genpkey -algorithm RSA ' .
    '-pkeyopt rsa_keygen_bits:512 2>/dev/null');
write_file('small.key', $small, 0644);
for my $case (
	[ 'an empty table', "# nothing\n", qr/bad:1: there is no key/ ],
	[ 'no such key', "\na.test a.test s none.key\n",
	    qr/bad:2: .*none\.key: No such file/ ],
	[ 'no private key', "a.test a.test s bad\n",
	    qr/bad:1: .*bad: the key is not a private key/ ],
	[ '512 bits', "# x\n\na.test a.test s small.key\n",
	    qr/bad:3: .*small\.key: the RSA key has less than 1024 bits/ ],
	[ 'a selector twice', "a.test a.test s r1.key\n" .
	    "b.test a.test s e1.key\n",
	    qr/bad:2: "s": the selector has another key in line 1/ ],
	[ 'a bad domain', "a.test a..test s r1.key\n",
	    qr/bad:1: "a\.\.test": no domain/ ],
	[ 'a bad selector', "a.test a.test s_1 r1.key\n",
	    qr/bad:1: "s_1": no selector/ ],
	[ 'a bad date', "a.test a.test s r1.key from 2026-02-30\n",
	    qr/bad:1: "2026-02-30": no date/ ],
	[ 'both forms', "a.test a.test s r1.key\n",
	    qr/bad\.conf:3: keys stands for domains/, 'selector = s' ],
) {
	my ($name, $text, $want, $more) = @$case;
	my ($status, $output) = check($text, $more);

	is($status, 78, "$name: refused");
	like($output, $want, "$name: file, line and reason");
	is(() = $output =~ /\n/g, 1, "$name: said once");
}

# Many keys
my $pem = read_file($path{r1});
my $many = '';
for my $n (1 .. 1000) {
	write_file("many$n", $pem, 0644);
	$many .= "d$n.test d$n.test s many$n\n";
}
my $began = time;
my ($status, $output) = check($many);
is($status, 0, 'a thousand keys') or diag($output);
# Sanitizers and a busy machine take their time, too.
cmp_ok(time - $began, '<', 15, 'a thousand keys: soon');

is($gate->stop, 0, 'stops well');
ok(sanitizers_silent($gate->log), 'no fault found');
done_testing;
