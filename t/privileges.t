#!/usr/bin/perl
# Started as root, every process has its own user and root directory, no way
# back, and a system call filter; the signing key is in its host alone.
use strict;
use warnings;
use IO::Socket::UNIX;
use Test::More;
use Millgate::Peers;
use Millgate::Test;

needs_root('Millgate with users of its own');

make_accounts();

my ($key, $record) = dkim_key('sel', 2048);
my ($listed) = dkim_key('listed', 2048);
chmod 0600, $key, $listed;
# Directories are asked by who needs them, each with a password.
my @passwords = map { "of-the-$_-" . 'x' x 40 } qw(gateway policy);
my @directories = map { write_file("directory$_", <<"END", 0600) } 0, 1;
server 127.0.0.1:1
base dc=test
filter (mail=%s)
user cn=reader
password $passwords[$_]
END
my $table = write_file('table', "sender.test sender.test l listed.key\n");
my $dovecot = start_dovecot();
my ($milter, $library, $grey) = map { free_port() } 1 .. 3;
my $server = start_millgate(as_root => 1, text => <<"END");
trusted_networks = { "127.0.0.0/8" }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	filters = { example }
	hostname_lookup = no
}
listener users {
	address = { "127.0.0.1:@{[ free_port() ]}" }
	recipients = "ldap:$directories[0]"
}
recipient_check people {
	domains = { people.test }
	recipients = "ldap:$directories[1]"
}
dkim_sign example {
	domains = { sender.test }
	selector = sel
	key = "$key"
}
dkim_sign many { keys = "$table" }
filter_host hosted {
	filters = { spf, authres, example }
	listen = { "127.0.0.1:$milter", "unix:\@DIR\@/milter" }
}
filter_host library {
	filters = { example }
	listen = { "127.0.0.1:$library" }
	front = libmilter
}
filter_host patient {
	filters = { greylist }
	listen = { "127.0.0.1:$grey" }
}
route example.test { via = { "lmtp:unix:$dovecot->{socket}" } }
dmarc_report { email = "reports\@example.test" }
policy { listen = { "unix:\@DIR\@/asked" } }
END

sub status_of { return read_file("/proc/$_[0]/status") }

my %user = (gateway => 'millgate', relay => 'millgate-relay',
    host => 'millgate-filter', policy => 'millgate-policy',
    console => 'millgate-console');
for my $role (sort keys %user) {
	my ($pid) = $server->children($role);
	ok($pid, "$role runs") or next;
	my $status = status_of($pid);
	my $uid = getpwnam $user{$role};

	like($status, qr/^Uid:\t$uid\t$uid\t$uid\t$uid$/m,
	    "$role: its own user, for good");
	like($status, qr/^Groups:\s*$/m, "$role: no other groups");
	like($status, qr/^CapEff:\t0+$/m, "$role: no capabilities");
	like($status, qr/^CapBnd:.*\n(?:.*\n)*?NoNewPrivs:\t1$/m,
	    "$role: no new privileges");
	like($status, qr/^Seccomp:\t2$/m, "$role: system call filter");
	isnt(readlink("/proc/$pid/root"), '/', "$role: a root of its own");
}

# All of the way works like this: a socket outside the root directory, a key.
my $reply = $server->smtp->deliver(to => 'bob@example.test');
like($reply, qr/^250/, 'a message is accepted');
wait_for('delivery', sub { scalar(() = mailbox($dovecot, 'bob')) });
my ($mail) = mailbox($dovecot, 'bob');
like($mail, qr/^DKIM-Signature: .*d=sender\.test/ms, 'signed and delivered');

# The fronts for other MTAs work like this too, threads and all.
for my $endpoint ("127.0.0.1:$milter", "unix:$server->{dir}/milter",
    "127.0.0.1:$library") {
	my ($status, $text) = run_command(build_dir() . '/gateway/millgatectl',
	    'milter', 'probe', $endpoint);

	is($status, 0, "a milter answers at $endpoint") or diag $text;
	like($text, qr/^session .*\beoh /m, 'to the end of a header');
}

# A host asks the policy process, whose socket it cannot see.
my (undef, $said_grey) = run_command(build_dir() . '/gateway/millgatectl',
    'milter', 'probe', "127.0.0.1:$grey");
like($said_grey, qr/^answer .*\b451 4\.7\.1\b/m, 'a host greylists');

# A Postfix may ask that process, and nobody else here.
sub ask_as {
	my ($user) = @_;
	my ($uid, $gid) = (getpwnam $user)[2, 3];
	my $pid = open(my $from, '-|') // die "fork: $!";

	if ($pid == 0) {
		($(, $)) = ($gid, "$gid $gid");
		($<, $>) = ($uid, $uid);
		my $socket = IO::Socket::UNIX->new("$server->{dir}/asked") or
		    do { print "$!\n"; exit 0 };
		print $socket "request=smtpd_access_policy\n" .
		    "protocol_state=RCPT\nclient_address=192.0.2.1\n" .
		    "recipient=bob\@example.test\n\n";
		print scalar <$socket>;
		exit 0;
	}
	return join '', <$from>;
}
chmod 0755, $server->{dir};
like(ask_as('postfix'), qr/^action=DEFER_IF_PERMIT /, 'Postfix may ask');
like(ask_as('nobody'), qr/^Permission denied$/, 'others may not');

# So does the relay.
my ($asked, $said) = $server->ctl('dmarc', 'send');
like($said, qr/there is nothing to report/, 'the relay asks for reports');

# The key's bytes, as they stand in the file.
sub part_of { return (read_file($_[0]) =~ /^([A-Za-z0-9+\/]{64})$/m)[0] }
my ($part, $listed_part) = map { part_of($_) } $key, $listed;
# Which of the secrets are somewhere in the memory of a process.
my %secrets = (key => $part, 'key of a table' => $listed_part,
    'password of the gateway' => $passwords[0],
    'password of the policy process' => $passwords[1]);
sub held {
	my ($pid) = @_;
	my %held;

	open my $memory, '<:raw', "/proc/$pid/mem" or die "mem of $pid: $!";
	for my $map (split /\n/, read_file("/proc/$pid/maps")) {
		my ($from, $to, $mode) = $map =~ /^(\w+)-(\w+) (\S+)/;
		next if $mode !~ /^r/ || $map =~ /\[v(?:var|syscall)/;
		no warnings 'portable';
		($from, $to) = (hex $from, hex $to);
		next if $to - $from > 1 << 30;
		while ($from < $to) {
			my $size = $to - $from > 1 << 22 ? 1 << 22 :
			    $to - $from;
			last unless sysseek $memory, $from, 0;
			my $bytes;
			my $n = sysread $memory, $bytes, $size;
			last unless $n;
			$held{$_} ||= index($bytes, $secrets{$_}) >= 0
			    for keys %secrets;
			$from += $n;
		}
	}
	return join ', ', grep { $held{$_} } sort keys %held;
}
my %holds = (gateway => 'password of the gateway',
    policy => 'password of the policy process', relay => '', console => '');
for my $role (sort keys %holds) {
	is(held($_), $holds{$role}, "what $role holds: " .
	    ($holds{$role} || 'nothing')) for ($server->children($role))[0];
}
my @held = map { held($_) } $server->children('host');
is(scalar(grep { /table/ } @held), 1,
    'one host alone holds the key of the table');
is(scalar(grep { /password/ } @held), 0, 'none holds a password');
is(held($server->{pid}), join(', ', sort keys %secrets),
    'the master holds all: the search can find them');

is($server->stop, 0, 'ends with status 0');
done_testing;
