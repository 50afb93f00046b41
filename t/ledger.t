#!/usr/bin/perl
# No accepted message is lost: clients send messages and keep a ledger of those
# that were answered 250, while gateways and relay, and now and then the whole
# tree, are killed with SIGKILL at random moments.  In the end every message of
# the ledger has reached the sink at least once.
use strict;
use warnings;
use Test::More;
use Fcntl qw(:flock);
use IO::Select;
use IO::Socket::INET;
use Millgate::Test;
use POSIX ();
use Time::HiRes qw(sleep time);

my $messages = $ENV{LEDGER_MESSAGES} // 3000;
my $clients = 10;
my $seconds = $ENV{LEDGER_SECONDS} // 15;	# of killing
my $seed = $ENV{LEDGER_SEED} // time ^ $$;
srand $seed;
note("LEDGER_SEED=$seed repeats the moments, as far as the machine does");

my $ledger = test_dir() . '/ledger';
my $arrived = test_dir() . '/arrived';
my $done = test_dir() . '/done';
write_file($_, '') for $ledger, $arrived;

sub append {
	my ($path, $line) = @_;

	open my $file, '>>', $path or die "$path: $!";
	syswrite $file, "$line\n";
}

# --- the next hop ---

sub sink_line {
	my ($state, $line) = @_;

	if ($state->{data}) {
		$state->{number} = $1 if $line =~ /^X-Ledger: (\d+)/;
		return '' if $line ne ".\r\n";
		append($arrived, $state->{number});
		$state->{data} = 0;
		return "250 2.0.0 Ok\r\n";
	}
	$state->{data} = 1 if $line =~ /^DATA/i;
	return "354 Go\r\n" if $state->{data};
	return "250-sink.test\r\n250 PIPELINING\r\n" if $line =~ /^EHLO/i;
	return "250 2.0.0 Ok\r\n";
}

sub sink {
	my ($listener) = @_;
	my $select = IO::Select->new($listener);
	my %state;

	while (1) {
		for my $socket ($select->can_read) {
			if ($socket == $listener) {
				my $client = $listener->accept or next;
				$select->add($client);
				$state{$client} = { in => '' };
				syswrite $client, "220 sink.test ESMTP\r\n";
				next;
			}
			my $state = $state{$socket};
			my $n = sysread $socket, $state->{in}, 65536,
			    length $state->{in};
			my $out = '';
			$out .= sink_line($state, $1)
			    while $state->{in} =~ s/\A(.*?\r\n)//s;
			syswrite $socket, $out if length $out;
			next if $n;
			$select->remove($socket);
			delete $state{$socket};
			$socket->close;
		}
	}
}

# --- the clients ---

sub client {
	my ($port, @numbers) = @_;
	my $smtp;

	for my $number (@numbers) {
		# Until it is answered 250, as an MTA would.
		while (1) {
			$smtp //= eval { new_smtp(port => $port,
			    timeout => 20) };
			my $reply = $smtp ? $smtp->deliver(data => message(
			    'X-Ledger' => $number, body =>
			    ("All work and no play.\r\n" x 100))) : '';
			if ($reply =~ /^250/) {
				append($ledger, $number);
				last;
			}
			undef $smtp;
			sleep 0.05;
		}
		sleep $seconds * $clients / $messages / 2;
	}
}

sub in_background {
	my ($code) = @_;
	my $pid = fork // die "fork: $!";

	return $pid if $pid;
	$SIG{PIPE} = 'IGNORE';
	eval { $code->(); 1 } or print STDERR $@;
	POSIX::_exit(0);
}

my $listener = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1',
    LocalPort => 0) or die;
my $sink_pid = in_background(sub { sink($listener) });
my $server = start_millgate(text => <<"END");
trusted_networks = { "127.0.0.0/8" }
listener smtp { address = { "127.0.0.1:\@PORT\@" } hostname_lookup = no }
route "*" { via = { "smtp:127.0.0.1:@{[ $listener->sockport ]}" } }
relay { minimal_backoff = 1s maximal_backoff = 2s }
END

my %senders = map {
	my $first = $_;
	my @numbers = grep { $_ % $clients == $first } 1 .. $messages;
	(in_background(sub { client($server->{port}, @numbers) }) => 1);
} 0 .. $clients - 1;

my %kills;
my $end = time + $seconds;
while (time < $end) {
	sleep 0.2 + rand 0.5;
	if (rand() < 0.1) {
		my @all = ($server->{pid}, $server->children);
		kill 'KILL', @all;
		stop_process($server->{pid}, 'KILL');
		$kills{tree}++;
		$server->run;
		next;
	}
	my $role = rand() < 0.6 ? 'gateway' : 'relay';
	my @pids = $server->children($role) or next;
	kill 'KILL', $pids[rand @pids];
	$kills{$role}++;
}
note('killed: ' . join ', ', map { "$_ $kills{$_} times" } sort keys %kills);

# What is left of the ledger is written undisturbed.
wait_for('the clients', sub {
	delete $senders{$_} for grep { waitpid($_, POSIX::WNOHANG()) != 0 }
	    keys %senders;
	return !%senders;
}, 120);
my %promised = map { $_ => 1 } split /\n/, read_file($ledger);
is(scalar keys %promised, $messages, 'all messages were accepted in the end');

my %seen;
my $all_there = eval {
	wait_for('the deliveries', sub {
		%seen = ();
		$seen{$_}++ for split /\n/, read_file($arrived);
		return !grep { !$seen{$_} } keys %promised;
	}, 60);
};
my @lost = grep { !$seen{$_} } sort { $a <=> $b } keys %promised;
ok($all_there, 'every message that got 250 was delivered') or
    diag('lost: ' . join ' ', @lost[0 .. ($#lost > 20 ? 20 : $#lost)]);
my $duplicates = 0;
$duplicates += $_ - 1 for values %seen;
diag("ledger: $messages accepted, " . scalar(@lost) . " lost, $duplicates " .
    'delivered more than once, ' . join ', ',
    map { "$_ killed $kills{$_}x" } sort keys %kills);
ok(($kills{gateway} // 0) > 0 && ($kills{relay} // 0) > 0,
    'gateways and relay were killed');

is($server->stop, 0, 'ends with status 0');
kill 'KILL', $sink_pid;
waitpid $sink_pid, 0;
done_testing;
