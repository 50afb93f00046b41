package Millgate::Test;

# What the integration tests share: a temporary directory, processes that end
# with the test, free ports, a running Millgate, an SMTP client that can be as
# rude as it likes.

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Path qw(make_path remove_tree);
use File::Temp ();
use IO::Socket::INET;
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX ();
use Test::More ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(build_dir source_dir test_dir free_port write_file read_file
    start_process stop_process wait_for wait_for_port run_command as_nobody
    needs_root unpacked start_millgate message new_smtp process_tree
    sanitizers_silent make_accounts);

my $dir;
my %processes;		# pid => name
my $owner = $$;

# A test that is ended by a signal stops what it started, too.  With handlers,
# not ignored, signals are as usual for the programs that are run.
$SIG{PIPE} = sub { };
for my $signal (qw(HUP INT TERM)) {
	$SIG{$signal} = sub { $$ == $owner ? exit 1 : POSIX::_exit(1) };
}

sub build_dir { return $ENV{MILLGATE_BUILD} // '.' }
sub source_dir { return $ENV{MILLGATE_SOURCE} // '.' }

# The test's directory; anybody may pass through, as daemons drop privileges.
sub test_dir {
	return $dir if defined $dir;
	$dir = File::Temp::tempdir('millgate-test-XXXXXX', TMPDIR => 1);
	chmod 0755, $dir;
	return $dir;
}

sub write_file {
	my ($path, $text, $mode) = @_;

	$path = test_dir() . "/$path" unless $path =~ m{^/};
	open my $file, '>:raw', $path or die "$path: $!";
	print $file $text;
	close $file or die "$path: $!";
	chmod $mode, $path if defined $mode;
	return $path;
}

sub read_file {
	my ($path) = @_;

	open my $file, '<:raw', $path or return '';
	local $/;
	return scalar(<$file>) // '';
}

# Below the ports that outgoing connections get, one of which might else take
# it before its server does.
sub free_port {
	for (1 .. 100) {
		my $port = 10240 + int rand 20000;
		my $socket = IO::Socket::INET->new(Listen => 1,
		    LocalPort => $port, LocalAddr => '127.0.0.1',
		    Proto => 'tcp') or next;
		return $port;
	}
	die "no free port: $!";
}

# Tries until the code returns something true; dies after the seconds: as many as
# a daemon may take to start on a busy machine.
sub wait_for {
	my ($what, $code, $seconds) = @_;
	my $end = time + ($seconds // 60);

	while (1) {
		my $result = $code->();
		return $result if $result;
		die "gave up waiting for $what\n" if time > $end;
		sleep 0.02;
	}
}

sub wait_for_port {
	my ($port, $seconds) = @_;

	wait_for("port $port", sub {
		IO::Socket::INET->new(PeerAddr => '127.0.0.1',
		    PeerPort => $port, Timeout => 1);
	}, $seconds);
}

# A command line that runs without root's rights, if we have them, and without
# prove's directories: below a closed home they cannot be read.
sub as_nobody {
	return @_ if $> != 0;
	return ('env', '-u', 'PERL5LIB', 'setpriv', '--reuid=65534',
	    '--regid=65534', '--clear-groups', @_);
}

# Ends a test that can't do its work without root; to pass over what it would
# have shown might hide a fault.
sub needs_root {
	my ($what) = @_;

	return if $> == 0;
	die "$what needs root: run ./check, or the test by sudo\n";
}

# Where the packages of etc/debian/test-extracts are, unpacked once for a build.
sub unpacked {
	my $directory = Cwd::abs_path(build_dir()) . '/t/debian';
	my ($status, $output) = run_command(source_dir() .
	    '/etc/debian/extract', 'test-extracts', $directory);

	die $output if $status != 0;
	return $directory;
}

# The accounts of an installation, made for the test if they lack.
my @made;
sub make_accounts {
	my %group = (millgate => 'millgate', 'millgate-relay' => 'millgate');

	system('groupadd --system millgate') if !getgrnam 'millgate';
	for my $user (qw(millgate millgate-relay millgate-policy
	    millgate-filter millgate-console)) {
		next if getpwnam $user;
		push @made, $user;
		my $group = $group{$user};
		system('useradd', '--system', '--no-create-home', '--shell',
		    '/usr/sbin/nologin', $group ? ('--gid', $group) :
		    ('--user-group'), $user) == 0 or die "useradd $user";
	}
}

# start_process(name, [command], %options): output goes to name.log in the
# test's directory.  Returns the process id.
sub start_process {
	my ($name, $command, %options) = @_;
	my $log = test_dir() . "/$name.log";

	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $log or POSIX::_exit(126);
		open STDERR, '>&', \*STDOUT;
		chdir($options{directory}) if $options{directory};
		$ENV{$_} = $options{environment}{$_}
		    for keys %{ $options{environment} // {} };
		exec { $command->[0] } @$command or POSIX::_exit(127);
	}
	$processes{$pid} = $name;
	return $pid;
}

# Ends a process and returns its exit status as $? has it.
sub stop_process {
	my ($pid, $signal, $seconds) = @_;
	my $status;

	return unless delete $processes{$pid};
	kill $signal // 'TERM', $pid;
	my $end = time + ($seconds // 45);
	while (waitpid($pid, POSIX::WNOHANG()) == 0) {
		if (time > $end) {
			kill 'KILL', $pid;
			waitpid($pid, 0);
			return -1;
		}
		sleep 0.01;
	}
	return $?;
}

# A process and all that come from it.
sub process_tree {
	my ($root) = @_;
	my (%children, @tree);

	for my $stat (glob '/proc/[0-9]*/stat') {
		push @{ $children{$2} }, $1
		    if read_file($stat) =~ /^(\d+) \(.*\) \S (\d+)/;
	}
	my @next = ($root);
	while (defined(my $pid = shift @next)) {
		push @tree, $pid;
		push @next, @{ $children{$pid} // [] };
	}
	return @tree;
}

# Whether the developer build's sanitizers found nothing; tells what if not.
sub sanitizers_silent {
	my ($log) = @_;
	my ($found) = $log =~ /((?:ERROR: AddressSanitizer|runtime error:|
	    detected\ memory\ leaks).*(?:\n.*){0,30})/x;

	Test::More::diag($found) if defined $found;
	return !defined $found;
}

# Runs a command to its end: (exit status, output).
sub run_command {
	my (@command) = @_;

	my $pid = open(my $out, '-|') // die "fork: $!";
	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDERR, '>&', \*STDOUT;
		exec { $command[0] } @command or POSIX::_exit(127);
	}
	local $/;
	my $text = <$out> // '';
	close $out;
	return ($? >> 8, $text);
}

# A small message; fields and body can be given.
sub message {
	my (%fields) = @_;
	my $body = delete $fields{body} // "Hello,\r\n\r\nthis is a test.\r\n";
	my %default = (From => 'Alice <alice@sender.test>',
	    To => 'Bob <bob@example.test>', Subject => 'test',
	    Date => 'Tue, 24 Nov 2026 03:00:00 +0000',
	    'Message-ID' => '<1@sender.test>');

	%fields = (%default, %fields);
	return join('', map { "$_: $fields{$_}\r\n" }
	    grep { defined $fields{$_} } sort keys %fields) . "\r\n$body";
}

sub new_smtp { return Millgate::Test::Smtp->new(@_) }

# start_millgate(conf => text): the text is put behind the settings of the
# directories.  The listener "smtp" is added on a free port unless the text has
# listeners.  Returns an object with port, dir, log and stop.
sub start_millgate {
	return Millgate::Test::Server->start(@_);
}

END {
	if ($$ == $owner) {
		my $status = $?;
		stop_process($_, 'TERM', 10)
		    for reverse sort { $a <=> $b } keys %processes;
		system('userdel', $_) for reverse @made;
		system('groupdel millgate 2>/dev/null') if @made;
		if (defined $dir) {
			if ($ENV{MILLGATE_KEEP} || $status != 0) {
				print STDERR "# left in $dir\n";
			} else {
				remove_tree($dir);
			}
		}
		$? = $status;
	}
}

package Millgate::Test::Server;

use strict;
use warnings;

my $count = 0;

sub start {
	my ($class, %options) = @_;
	my $self = bless { name => 'millgate' . $count++, %options }, $class;
	my $dir = $self->{dir} = Millgate::Test::test_dir() . "/$self->{name}";

	mkdir $dir;
	chown 65534, 65534, $dir if $> == 0;
	$self->{port} //= Millgate::Test::free_port();
	$self->{conf} = "$dir/millgate.conf";
	$self->configure($self->{text} // '');
	$self->run unless $self->{only_configure};
	return $self;
}

# Writes the configuration: the directories, then the given text.
sub configure {
	my ($self, $text) = @_;
	my $dir = $self->{dir};
	my $top = <<"END";
hostname = mx.example.test
spool_directory = "$dir/spool"
state_directory = "$dir/state"
run_directory = "$dir/run"
log_target = stderr
minimum_free = 1M
END
	$top .= "gateways = 2\n" unless $text =~ /^gateways/m;
	$top .= "relay_domains = { example.test }\n"
	    unless $text =~ /^relay_domains/m;
	$top .= "listener smtp { address = { \"127.0.0.1:$self->{port}\" } }\n"
	    unless $text =~ /^listener/m;
	$text =~ s/\@PORT\@/$self->{port}/g;
	$text =~ s/\@DIR\@/$dir/g;
	Millgate::Test::write_file($self->{conf}, $top . $text, 0644);
}

sub command {
	my ($self, @arguments) = @_;
	my @command = (Millgate::Test::build_dir() . '/gateway/millgate',
	    '-c', $self->{conf}, @arguments);

	return $self->{as_root} ? @command :
	    Millgate::Test::as_nobody(@command);
}

sub run {
	my ($self) = @_;
	my $before = () = $self->log =~ /: ready: /g;

	$self->{pid} = Millgate::Test::start_process($self->{name},
	    [ $self->command ]);
	Millgate::Test::wait_for("$self->{name} to be ready", sub {
		my $now = () = $self->log =~ /: ready: /g;
		return 1 if $now > $before;
		die "$self->{name} ended early:\n" . $self->log
		    if waitpid($self->{pid}, POSIX::WNOHANG()) != 0;
		return 0;
	}, 30);
}

sub log {
	my ($self) = @_;
	return Millgate::Test::read_file(
	    Millgate::Test::test_dir() . "/$self->{name}.log");
}

# Waits until the log has a line that matches; returns the first group or 1.
sub wait_log {
	my ($self, $pattern, $seconds) = @_;
	return Millgate::Test::wait_for("log to match $pattern", sub {
		return $self->log =~ $pattern ? $1 // 1 : 0;
	}, $seconds);
}

# Tests that the log comes to match: a line may be there later than the reply
# that it tells of.
sub logs {
	my ($self, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $found = eval { $self->wait_log($pattern) };

	return Test::More::ok($found, $name) ||
	    Test::More::diag("no $pattern in:\n" . $self->log);
}

# Lines of the log that hold what no line should: controls, marks that reorder
# text, what is not UTF-8.
sub wild_lines {
	my ($self) = @_;
	return grep { !utf8::decode($_) || /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/ }
	    split /\n/, $self->log;
}

# Tests that a command comes to print what matches, as the relay and the history
# follow, too; returns what it printed.
sub tells {
	my ($self, $words, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $text;
	my $found = eval { Millgate::Test::wait_for("@$words", sub {
		(my $status, $text) = $self->ctl(@$words);
		return $status == 0 && $text =~ $pattern;
	}) };

	Test::More::ok($found, $name) ||
	    Test::More::diag("no $pattern in:\n$text");
	return $text;
}

sub ctl {
	my ($self, @arguments) = @_;
	my @command = (Millgate::Test::build_dir() . '/gateway/millgatectl',
	    '-s', "$self->{dir}/run/control", @arguments);

	@command = Millgate::Test::as_nobody(@command)
	    unless $self->{as_root};
	return Millgate::Test::run_command(@command);
}

# Process ids of the children of a role (all roles: undef).
sub children {
	my ($self, $role) = @_;
	my @pids;

	for my $stat (glob '/proc/[0-9]*/stat') {
		my ($pid, $name, $parent) =
		    Millgate::Test::read_file($stat) =~
		    /^(\d+) \((.*)\) \S (\d+)/ or next;
		push @pids, $pid if $parent == $self->{pid} &&
		    (!defined $role || $name eq $role);
	}
	return @pids;
}

sub stop {
	my ($self, $signal) = @_;
	return Millgate::Test::stop_process($self->{pid}, $signal);
}

sub smtp {
	my ($self, %options) = @_;
	return Millgate::Test::Smtp->new(port => $self->{port}, %options);
}

package Millgate::Test::Smtp;

use strict;
use warnings;

# new(port => N, [timeout => seconds], [no_greeting => 1], [local => address],
# [peer => address])
sub new {
	my ($class, %options) = @_;
	my $socket = IO::Socket::IP->new(PeerAddr => $options{peer} //
	    '127.0.0.1', PeerPort => $options{port}, Proto => 'tcp',
	    LocalAddr => $options{local}) or
	    die "connect to port $options{port}: $!";
	my $self = bless { socket => $socket, in => '',
	    timeout => $options{timeout} // 60 }, $class;

	$socket->autoflush(1);
	$self->{greeting} = $self->reply unless $options{no_greeting};
	return $self;
}

sub send {
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $done = 0;

	while ($done < length $bytes) {
		my $n = syswrite $self->{socket}, $bytes,
		    length($bytes) - $done, $done;
		return 0 unless defined $n;
		$done += $n;
	}
	return 1;
}

# One reply, all its lines; '' when the server has closed or says nothing.
sub reply {
	my ($self) = @_;
	my $reply = '';
	my $end = Time::HiRes::time() + $self->{timeout};

	while (1) {
		while ($self->{in} =~ s/\A(.*?\n)//s) {
			$reply .= $1;
			return $reply if $1 =~ /^\d\d\d(?: |\r?\n)/;
		}
		my $left = $end - Time::HiRes::time();
		return $reply if $left <= 0;
		my $ready = '';
		# TLS may hold bytes that select can't see.
		if (!($self->{socket}->can('pending') &&
		    $self->{socket}->pending)) {
			vec($ready, fileno $self->{socket}, 1) = 1;
			return $reply unless select $ready, undef, undef, $left;
		}
		my $n = sysread $self->{socket}, $self->{in}, 65536,
		    length $self->{in};
		return $reply unless $n;
	}
}

sub command {
	my ($self, $line) = @_;
	$self->send("$line\r\n") or return '';
	return $self->reply;
}

# Sends a message; returns the reply to its end, or the one that stopped it.
sub deliver {
	my ($self, %options) = @_;
	my $data = $options{data} // Millgate::Test::message();
	my $reply;

	if (!$self->{greeted}++) {
		$reply = $self->command('EHLO ' .
		    ($options{helo} // 'client.sender.test'));
		return $reply unless $reply =~ /^250/;
	}
	$reply = $self->command('MAIL FROM:<' .
	    ($options{from} // 'alice@sender.test') . '>' .
	    ($options{parameters} // ''));
	return $reply unless $reply =~ /^250/;
	for my $to (ref $options{to} ? @{ $options{to} } :
	    ($options{to} // 'bob@example.test')) {
		$reply = $self->command("RCPT TO:<$to>");
		return $reply unless $reply =~ /^250/;
	}
	$reply = $self->command('DATA');
	return $reply unless $reply =~ /^354/;
	$data =~ s/^\./../mg;
	return $self->command("$data.");
}

# Options are those of IO::Socket::SSL.
sub starttls {
	my ($self, %options) = @_;
	require IO::Socket::SSL;

	my $reply = $self->command('STARTTLS');
	return $reply unless $reply =~ /^220/;
	IO::Socket::SSL->start_SSL($self->{socket},
	    SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(), %options) or
	    return "TLS failed: $IO::Socket::SSL::SSL_ERROR";
	$self->{greeted} = 0;
	return $reply;
}

sub close { my ($self) = @_; close $self->{socket}; }

1;
