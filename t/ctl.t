#!/usr/bin/perl
# millgatectl: the queue while the next hop is down, the history of what was
# accepted, refused and deferred, and the whole gateway.
use strict;
use warnings;
use Test::More;
use IO::Socket::UNIX;
use Millgate::Peers;
use Millgate::Test;
use Time::HiRes qw(sleep time);

my $port = free_port();
my $server = start_millgate(text => <<"END");
trusted_networks = { "192.0.2.0/24" }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
}
route example.test { via = { "smtp:127.0.0.1:$port" } }
END

sub ctl {
	my ($status, $output) = $server->ctl(@_);
	return { status => $status, output => $output };
}

sub succeeds {
	my ($words, $pattern, $name) = @_;
	my $result = ctl(@$words);

	is($result->{status}, 0, "$name: exit status") or
	    diag($result->{output});
	like($result->{output}, $pattern, $name);
	return $result->{output};
}

sub fails {
	my ($words, $status, $pattern, $name) = @_;
	my $result = ctl(@$words);

	is($result->{status}, $status, "$name: exit status");
	like($result->{output}, $pattern, $name);
}

# Events reach the history within a moment.
sub explains {
	my ($id, $pattern) = @_;
	return wait_for("$id to be explained as $pattern", sub {
		my $result = ctl('explain', $id);
		return $result->{status} == 0 &&
		    $result->{output} =~ $pattern ? $result->{output} : 0;
	});
}

# --- an empty queue, and what goes wrong before anything else ---

succeeds([ qw(queue list) ], qr/^queue is empty$/, 'an empty queue');
succeeds([ 'status' ], qr/is running.*relay +answers/s, 'status');
fails([ qw(queue show 4bXk2w) ], 1, qr/no such message/, 'no such message');
fails([ qw(queue delete ../x) ], 1, qr/not an id/, 'not an id');
fails([ qw(queue) ], 64, qr/usage: queue list/, 'half a command');
fails([ qw(dance) ], 64, qr/usage: .*explain/, 'no such command');
fails([ 'x' x 2000 ], 64, qr/too long/, 'a long command');
fails([ ], 64, qr/^usage: millgatectl/, 'no command');
succeeds([ '-h' ], qr/^usage: millgatectl.*queue list/s, 'help');
fails([ qw(explain nosuchid) ], 1, qr/no such id in the history/,
    'no such id');

# --- the next hop is down ---

my $smtp = $server->smtp;
my %id;
for my $name (qw(first second third)) {
	my $reply = $smtp->deliver(from => "$name\@sender.test",
	    to => [ 'bob@example.test', 'carol@example.test' ]);
	($id{$name}) = $reply =~ /^250 .*queued as (\w+)/ or
	    BAIL_OUT("not queued: $reply");
}
my $explained = explains($id{first},
    qr/message: accepted.*delivery to <carol\@[^\n]*: deferred/s);
like($explained, qr/client +\S*\[127\.0\.0\.1\]/, 'explain: the client');
like($explained, qr/sender +<first\@sender\.test>/, 'explain: the sender');
like($explained, qr/recipients +bob\@example\.test carol\@example\.test/,
    'explain: the recipients');
like($explained, qr/message: accepted\n +\+[\d.]+ms smtp: connect from/,
    'explain: the trace');
like($explained, qr/deferred\n    .*(refused|connect)/i,
    'explain: why it was deferred');
like($explained, qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  /m,
    'explain: when');

my $list = succeeds([ qw(queue list) ], qr/^-- 3 messages$/m, 'queue list');
like($list, qr/^\Q$id{first}\E +\d+  [\d-]{10} [\d:]{8}  deferred  /m,
    'queue list: a line');
my @columns = map { index $_, '<' } grep { /^\w+ +\d/ } split /\n/, $list;
is(scalar(grep { $_ == $columns[0] } @columns), 3, 'queue list: aligned');
like(succeeds([ 'queue', 'show', $id{second} ], qr/^Subject: test$/m,
    'queue show: header'), qr/^from: <second\@sender\.test>$/m,
    'queue show: envelope');
succeeds([ qw(queue sites) ], qr/127\.0\.0\.1.*waiting=/, 'queue sites');

succeeds([ 'queue', 'hold', $id{second} ], qr/^\Q$id{second}\E: held$/,
    'queue hold');
succeeds([ qw(queue list) ], qr/^\Q$id{second}\E .* held /m,
    'the list shows it held');
explains($id{second}, qr/queue: held\n +by the operator/);
succeeds([ 'queue', 'delete', $id{third} ], qr/^\Q$id{third}\E: deleted$/,
    'queue delete');
fails([ 'queue', 'show', $id{third} ], 1, qr/no such message/,
    'what was deleted is gone');
explains($id{third}, qr/removed\n +by the operator/);

# --- it comes back ---

my $sink = start_sink(port => $port);
succeeds([ qw(queue flush) ], qr/^flushed: \d/, 'queue flush');
explains($id{first}, qr/delivery to <bob\@.*: sent\n +.*250/);
succeeds([ qw(queue list) ], qr/^\Q$id{second}\E .* held .*^-- 1 message$/ms,
    'what is held stays');
succeeds([ 'queue', 'release', $id{second} ],
    qr/^\Q$id{second}\E: released$/, 'queue release');
explains($id{second}, qr/outcome +sent/);
wait_for('an empty queue', sub {
	return ctl(qw(queue list))->{output} =~ /^queue is empty$/;
});
is(scalar($sink->messages), 2, 'the next hop has both, and no third');

# --- a refusal, by the id that the client was told ---

my $reply = $smtp->deliver(from => 'spam@sender.test',
    to => 'x@elsewhere.test');
my ($reference) = $reply =~ /^5\d\d .*\[\S+ (\w+)\]/;
ok(defined $reference, 'a refusal tells its reference') or diag($reply);
$smtp->command('RSET');
$explained = explains($reference, qr/smtp: RCPT.*: 5\d\d /);
like($explained, qr/sender +<spam\@sender\.test>/, 'explain: a refusal');

like($smtp->command('MAIL FROM:<big@sender.test> SIZE=9999999999'), qr/^552 /,
    'a refusal at MAIL');
$server->wait_log(qr/reject: MAIL from .*: 552 .*; from=<big\@sender\.test> /);

# --- the history ---

my $history = succeeds([ 'history' ], qr/\Q$id{first}\E/, 'history');
my @ids = $history =~ /^[\d-]{10} [\d:]{8}  (\w+)/mg;
is_deeply([ grep { $_ eq $id{first} || $_ eq $id{third} } @ids ],
    [ $id{third}, $id{first} ], 'history: newest first');
$history = succeeds([ qw(history -n 1) ], qr/^/, 'history -n');
is(scalar(split /\n/, $history), 1, 'history -n: one line');
$history = succeeds([ qw(history search SECOND@sender) ],
    qr/\Q$id{second}\E .*<second\@sender\.test> bob\@example\.test/,
    'history search');
is(scalar(split /\n/, $history), 1, 'history search: no other');
succeeds([ qw(history search x@elsewhere) ],
    qr/\Q$reference\E .*<spam\@sender\.test> x\@elsewhere\.test/,
    'history search: a recipient that was refused');
is(ctl(qw(history search nobody@nowhere))->{output}, '',
    'history search in vain');
fails([ qw(history -n x) ], 64, qr/number/, 'history -n x');

# --- counters, clients in each other's way, reload, stop ---

my $stats = succeeds([ 'stats' ], qr/^smtp$/m, 'stats');
like($stats, qr/^  messages \(accepted\) +3$/m, 'stats: a counter');
like($stats, qr/^delivery\n.*^  delivery \(sent\) +4$/ms,
    'stats: deliveries');

my @silent = map { IO::Socket::UNIX->new(
    Peer => "$server->{dir}/run/control") } 1 .. 10;
my $begin = time;
succeeds([ qw(queue list) ], qr/empty/, 'silent clients are in no way');
ok(time - $begin < 5, 'nor do they slow it');
close $_ for @silent;

my $good = read_file($server->{conf});
write_file($server->{conf}, "$good\nrelay_domain = x\n", 0644);
fails([ 'reload' ], 1,
    qr/millgate\.conf:\d+: relay_domain: unknown.*reload failed/s,
    'a reload that is refused says why');
write_file($server->{conf}, $good, 0644);
succeeds([ 'reload' ], qr/configuration 1 is in use/, 'reload');
$server->wait_log(qr/reload: configuration \d/);
wait_for('the console after the reload', sub {
	return ctl('status')->{status} == 0;
});
explains($id{first}, qr/: sent/);
like($server->smtp->deliver, qr/^250 /, 'mail goes on');

succeeds([ 'stop' ], qr/stopping/, 'stop');
waitpid $server->{pid}, 0;
is($? >> 8, 0, 'it stopped');
fails([ 'status' ], 69, qr/cannot connect to .*: is Millgate running\?/,
    'not running');

# --- it remembers ---

$server->run;
explains($id{first}, qr/: sent/);

# --- a corrupt history is put aside, and mail goes on ---

$server->stop;
write_file("$server->{dir}/state/console/history.db", 'x' x 100_000);
$server->run;
$server->wait_log(qr/history\.db is corrupt/);
ok(-e "$server->{dir}/state/console/history.db.corrupt",
    'a corrupt history is put aside');
fails([ 'explain', $id{first} ], 1, qr/no such id/, 'a new one begins');
$reply = $server->smtp->deliver;
like($reply, qr/^250 /, 'with a corrupt history mail goes on');
explains($reply =~ /queued as (\w+)/, qr/accepted/);

done_testing;
