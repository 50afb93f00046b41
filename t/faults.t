# What goes wrong around the gateway: a full disk, no descriptors, stops and
# reloads under load, damaged files, no DNS.  Nothing that was accepted is lost.

use strict;
use warnings;

use File::Copy ();
use Millgate::Peers;
use Millgate::Test;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

sub message_of {
	my ($number, $size) = @_;
	return message('X-Number' => $number,
	    body => ('x' x 70 . "\r\n") x (($size // 0) / 72 + 1) . '');
}

# Numbers of the messages that a sink has, each once.
sub numbers {
	my ($sink) = @_;
	my %seen;

	/^X-Number: (\S+)\r$/m and $seen{$1}++ for $sink->messages;
	return \%seen;
}

# Waits until all these numbers have come to the sink.
sub arrived {
	my ($sink, @numbers) = @_;
	my @missing = @numbers;

	eval {
		wait_for('all at the sink', sub {
			my $have = numbers($sink);
			@missing = grep { !$have->{$_} } @missing;
			return !@missing;
		}, 25);
	};
	return "@missing";
}

# Clients in processes of their own send until they are refused or stopped;
# what was answered 250 stands in the ledger.
my $ledger = test_dir() . '/ledger';
sub start_clients {
	my ($port, $count) = @_;
	my @pids;

	write_file($ledger, '');
	for my $client (1 .. $count) {
		my $pid = fork // die;
		if ($pid != 0) {
			push @pids, $pid;
			next;
		}
		my $n = 0;
		my $stop = 0;
		$SIG{TERM} = sub { $stop = 1 };
		until ($stop) {
			my $smtp = eval { new_smtp(port => $port) } or last;
			my $number = "$client." . $n++;
			my $reply = $smtp->deliver(data =>
			    message_of($number));

			next unless $reply =~ /^250/;
			open my $file, '>>', $ledger;
			syswrite $file, "$number\n";
		}
		POSIX::_exit(0);
	}
	return @pids;
}

sub accepted { return split /\n/, read_file($ledger) }

subtest 'disk full' => sub {
	needs_root('a small disk, mounted,');
	my $dead = free_port();
	my $gate = start_millgate(only_configure => 1, text => <<"END");
gateways = 1
relay { minimal_backoff = 500ms  maximal_backoff = 500ms }
route "*" { via = { "smtp:[127.0.0.1]:$dead" } }
END
	my $spool = "$gate->{dir}/spool";
	my $ballast = "$spool/ballast";
	my (@accepted, $reply, $smtp, $half, $sink);
	my $fill = sub {
		my ($size) = @_;
		run_command('dd', 'if=/dev/zero', "of=$ballast", 'bs=4096',
		    $size ? "count=$size" : ());
	};

	mkdir $spool;
	my ($status, $output) = run_command('mount', '-t', 'tmpfs', '-o',
	    'size=8m,mode=755,uid=65534,gid=65534', 'tmpfs', $spool);
	is $status, 0, 'a small disk' or diag $output;
	eval {
		$gate->run;
		$smtp = $gate->smtp;
		for my $number (1 .. 100) {
			$reply = $smtp->deliver(data =>
			    message_of($number, 200_000));
			last unless $reply =~ /^250/;
			push @accepted, $number;
		}
		like $reply, qr/^45[12] 4\.3\.[01] /, 'full: ' . @accepted .
		    ' messages, then 452';
		cmp_ok scalar(@accepted), '>', 10, 'most of the disk is used';
		$smtp->command('RSET');
		wait_for('452 at MAIL', sub {
			my $now = $smtp->command('MAIL FROM:<a@b.test>');
			$smtp->command('RSET');
			return $now =~ /^452 4\.3\.1 /;
		}, 5);
		pass '452 4.3.1 at MAIL';

		# Not one byte is left: the queue drains all the same.
		$fill->();
		$sink = start_sink(port => $dead);
		is arrived($sink, @accepted), '', 'all of these arrive';
		# What was delivered makes room, a second or so later.
		wait_for('the segments to go', sub {
			!glob "$spool/segments/*.seg";
		});
		$fill->();
		like $gate->smtp->deliver, qr/^452 4\.3\.1 /, 'full again';

		unlink $ballast;
		wait_for('room', sub {
			$gate->smtp->deliver(data => message_of('after')) =~
			    /^250/;
		}, 5);
		pass 'it takes mail again, without a restart';
		is arrived($sink, 'after'), '', 'and delivers it';

		# It fills up while a message is on its way.
		$half = $gate->smtp;
		$half->command('EHLO client.test');
		$half->command('MAIL FROM:<a@sender.test>');
		$half->command('RCPT TO:<bob@example.test>');
		like $half->command('DATA'), qr/^354 /, 'a message begins';
		$half->send(message_of('half', 300_000));
		$fill->();
		$half->send('y' x 70 . "\r\n") for 1 .. 20_000;
		like $half->command('.'), qr/^45[12] 4\.3\.[01] /,
		    'is refused for now';
		unlink $ballast;
		$gate->logs(qr/cannot keep the message|not queued/,
		    'as the log says');
		is $gate->stop, 0, 'ends well';
		1;
	} or fail($@);
	$gate->stop;
	run_command('umount', $spool);
};

subtest 'no descriptors' => sub {
	my $gate = start_millgate(text => <<"END");
gateways = 1
route "*" { via = { "discard:" } }
END
	my ($pid) = $gate->children('gateway');
	my $before = $gate->smtp;
	my (@held, @refused);
	my $ticks = sub {
		my @stat = split / /, read_file("/proc/$pid/stat");
		return $stat[13] + $stat[14];
	};

	like $before->deliver, qr/^250 /, 'a message before';
	my ($status, $output) = run_command(as_nobody('prlimit',
	    "--pid=$pid", '--nofile=64:64'));
	is $status, 0, 'few descriptors' or diag $output;
	for (1 .. 80) {
		my $smtp = $gate->smtp(timeout => 5);

		push @{ $smtp->{greeting} =~ /^220 / ? \@held : \@refused },
		    $smtp;
	}
	cmp_ok scalar(@held), '>', 20, scalar(@held) . ' sessions';
	is scalar(grep { $_->{greeting} !~ /^421 4\.3\.2 / } @refused), 0,
	    scalar(@refused) . ' others hear 421';
	cmp_ok scalar(@refused), '>', 5, 'for there is no room';
	like $before->deliver, qr/^250 /, 'an old session goes on';
	like $held[-1]->deliver, qr/^250 /, 'a new one as well';
	my $start = $ticks->();
	sleep 1;
	cmp_ok $ticks->() - $start, '<', 30, 'no processor time is burnt';
	$_->close for @held;
	@held = ();
	wait_for('room', sub { $gate->smtp->{greeting} =~ /^220 / });
	like $gate->smtp->deliver, qr/^250 /, 'then there is room again';
	is $gate->stop, 0, 'ends well';
};

subtest 'stopped under load' => sub {
	my $sink = start_sink();
	my $gate = start_millgate(text => <<"END");
route "*" { via = { "smtp:[127.0.0.1]:$sink->{port}" } }
END
	my @clients = start_clients($gate->{port}, 6);

	wait_for('some mail', sub { accepted() > 50 });
	is $gate->stop, 0, 'TERM';
	waitpid $_, 0 for @clients;
	my @accepted = accepted();
	$gate->run;
	is arrived($sink, @accepted), '', 'all ' . @accepted .
	    ' that were accepted have arrived';
	my $have = numbers($sink);
	is scalar(grep { $have->{$_} > 1 } keys %$have), 0, 'none twice';
	is $gate->stop, 0, 'ends well';
};

subtest 'reloads under load' => sub {
	my $sink = start_sink();
	my $gate = start_millgate(text => <<"END");
route "*" { via = { "smtp:[127.0.0.1]:$sink->{port}" } }
END
	my ($enough, $batches) = map { test_dir() . "/$_" } qw(enough batches);
	my @source = ('smtp-source', '-s', 4, '-m', 200, '-l', 2000, '-f',
	    'a@sender.test', '-t', 'bob@example.test',
	    "127.0.0.1:$gate->{port}");

	# One batch after another, for as long as the reloads take.
	write_file($batches, '');
	my $source = fork // die;
	if ($source == 0) {
		until (-e $enough) {
			my ($status, $output) = run_command(@source);
			open my $file, '>>', $batches;
			syswrite $file, "$status $output\n";
		}
		POSIX::_exit(0);
	}
	for my $reload (1 .. 3) {
		kill 'HUP', $gate->{pid};
		$gate->wait_log(qr/reload: configuration $reload\n/);
		sleep 0.3;
	}
	write_file($enough, '');
	waitpid $source, 0;
	my @sent = split /\n/, read_file($batches);
	is scalar(grep { $_ ne '0 ' } @sent), 0,
	    'no connection was refused or cut' or diag explain \@sent;
	eval { wait_for('the sink', sub { $sink->messages >= 200 * @sent },
	    25) };
	is scalar(my @all = $sink->messages), 200 * @sent,
	    'each message once';
	wait_for('old processes to end', sub {
		return $gate->children('gateway') == 2 &&
		    $gate->children('relay') == 1;
	});
	pass 'old processes have ended';
	is $gate->stop, 0, 'ends well';
};

subtest 'a reload and three sessions' => sub {
	my $gate = start_millgate(text => <<"END");
gateways = 1
route "*" { via = { "discard:" } }
END
	my ($idle, $middle, $fresh) = map { $gate->smtp } 1 .. 3;

	like $idle->deliver, qr/^250 /, 'one has sent a message';
	$middle->command('EHLO client.test');
	$middle->command('MAIL FROM:<a@sender.test>');
	kill 'HUP', $gate->{pid};
	like $idle->reply, qr/^421 4\.3\.2 /, 'and is idle: it may go';
	like $middle->command('RCPT TO:<bob@example.test>'), qr/^250 /,
	    'one goes on behind MAIL';
	like $middle->command('DATA'), qr/^354 /, 'to its end';
	like $fresh->deliver, qr/^250 /, 'one had only just connected';
	like $middle->command(message() . '.'), qr/^250 /, 'all is taken';
	is $gate->stop, 0, 'ends well';
};

subtest 'damaged files, and a restart with a queue' => sub {
	my $dead = free_port();
	my $gate = start_millgate(text => <<"END");
gateways = 1
relay { minimal_backoff = 500ms  maximal_backoff = 500ms }
route "*" { via = { "smtp:[127.0.0.1]:$dead" } }
END
	my $smtp = $gate->smtp;
	my ($segment, $bytes, $at);

	like $smtp->deliver(data => message_of($_)), qr/^250 /, "message $_"
	    for 'a' .. 'h';
	$gate->wait_log(qr/status=deferred/);
	$smtp->command('QUIT');
	is $gate->stop, 0, 'stopped';

	for my $path (glob "$gate->{dir}/spool/segments/*") {
		my $text = read_file($path);
		$at = index $text, 'X-Number: c';
		($segment, $bytes) = ($path, $text) if $at > 0;
	}
	ok defined $segment, 'the queue lies in a segment' or return;
	$at = index $bytes, 'X-Number: c';
	substr $bytes, $at, 11, 'X-Number: C';
	open my $file, '+<:raw', $segment or die;
	seek $file, $at, 0;
	print $file 'X-Number: C';
	close $file;

	my $sink = start_sink(port => $dead);
	$gate->run;
	is arrived($sink, 'a', 'b', 'd' .. 'h'), '', 'all others arrive';
	$gate->wait_log(qr/set aside/);
	my @aside = glob "$gate->{dir}/spool/corrupt/*";
	cmp_ok scalar(@aside), '>=', 1, 'the damaged one is set aside';
	like join('', map { read_file($_) } @aside), qr/X-Number: C/,
	    'with what was left of it';
	my $have = numbers($sink);
	ok !$have->{c} && !$have->{C}, 'and never delivered';
	is scalar(grep { $_ > 1 } values %$have), 0, 'none came twice';
	like $gate->smtp->deliver(data => message_of('new')), qr/^250 /,
	    'new mail';
	is arrived($sink, 'new'), '', 'is delivered';
	is $gate->stop, 0, 'ends well';
	# A restart repeats nothing.
	$gate->run;
	like $gate->smtp->deliver(data => message_of('last')), qr/^250 /,
	    'after another restart';
	is arrived($sink, 'last'), '', 'as well';
	is scalar(my @all = $sink->messages), 9, 'nothing is repeated';
	is $gate->stop, 0, 'ends well';
};

subtest 'no DNS' => sub {
	my $dead = free_port();
	my $sink = start_sink();
	my $gate = start_millgate(text => <<"END");
dns_forwarders = { "127.0.0.1\@$dead" }
dns_timeout = 1s
relay { minimal_backoff = 500ms  maximal_backoff = 500ms }
route "known.test" { via = { "smtp:[127.0.0.1]:$sink->{port}" } }
END
	my $smtp = $gate->smtp;
	my ($id) = $smtp->deliver(to => 'bob@example.test') =~
	    /queued as (\w+)/;

	like $gate->wait_log(qr/$id: (to=.*)/),
	    qr/dsn=4\.4\.3, status=deferred/, 'an MX that cannot be had';
	like $smtp->deliver(to => 'bob@known.test',
	    data => message_of('known')), qr/^250 /, 'other mail';
	is arrived($sink, 'known'), '', 'is delivered';
	unlike $gate->log, qr/status=bounced/, 'nothing bounces';
	is $gate->stop, 0, 'ends well';
};

done_testing;
