#!/usr/bin/perl
# Milters at work at the same time, while a message arrives, and dying in the
# midst of one.  What proves it is the order of events, never the time taken.
use strict;
use warnings;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my %mode = (a => 'barrier/3', b => 'barrier/3', c => 'barrier/3',
    see => 'see', flow => 'see', r1 => 'reject', r2 => 'reject', body => 'die-body',
    end => 'die-end', replace => 'die-replace', endless => 'endless',
    late => 'barrier/2', no => 'reject');
my %port = map { $_ => free_port() } keys %mode;
my $script = write_file('milter-script',
    read_file(source_dir() . '/t/lib/milter-script'), 0644);
my $log = write_file('heard', '', 0666);

start_process('milters', [ as_nobody($^X, $script, $log,
    map { "$_=$port{$_}:$mode{$_}" } sort keys %mode) ]);
wait_for_port($_) for values %port;

# And a real one, that would sign.
my ($key) = dkim_key('shadow', 2048);
my $opendkim = start_opendkim(key => $key, domain => 'sender.test',
    selector => 'sel');
my $metrics_port = free_port();

my %listener = (shadow => [ qw(late no opendkim) ],
    group => [ qw(a b c) ], decide => [ qw(see r1 r2) ],
    map { $_ => [ $_ ] } qw(flow body end replace endless));
$port{"listen $_"} = free_port() for keys %listener;

sub milter {
	my ($name, $options) = @_;
	my $endpoint = $name eq 'opendkim' ? $opendkim->{endpoint} :
	    "127.0.0.1:$port{$name}";
	return "milter $name { endpoint = { \"$endpoint\" } spare = 0 " .
	    "$options }\n";
}

my $gate = start_millgate(text => <<"END" . join '',
gateways = 1
relay_domains = { example.test }
dns_forwarders = { "127.0.0.1\@9" }
dns_timeout = 100ms
route "*" { via = { "maildir:\@DIR\@/mail" } }
console { metrics = { "127.0.0.1:$metrics_port" } }
END
    (map { milter($_, 'group = side content_timeout = 10s') } qw(a b c)),
    (map { milter($_, 'group = two') } qw(see r1 r2)), milter('flow', ''),
    milter('body', ''), milter('end', 'default_action = accept'),
    milter('replace', 'default_action = accept'),
    milter('endless',
    'content_timeout = 5s total_timeout = 1s default_action = reject'),
    (map { milter($_, 'shadow = yes') } qw(late no opendkim)),
    map { "listener $_ { address = { \"127.0.0.1:$port{\"listen $_\"}\" } " .
    'hostname_lookup = no filters = { ' .
    join(', ', @{ $listener{$_} }) . " } }\n" } sort keys %listener);

# The commands that a milter was sent.
sub heard { return join '', map { / (.*)/ } grep { /^$_[0] / }
    split /\n/, read_file($log) }

# The reply to a message.
sub deliver {
	my ($listener) = @_;
	my $client = new_smtp(port => $port{"listen $listener"});
	my $reply = $client->deliver;
	$client->close;
	return $reply;
}

subtest 'a group works at the same time' => sub {
	my $reply = deliver('group');
	like($reply, qr/^250 /, 'each answers when all were told the end');
	my ($id) = $reply =~ /queued as (\w+)/;
	$gate->wait_log(qr/$id: removed/);
	is(join(' ', map { /^X-(\w)/mg } mailbox("$gate->{dir}/mail")),
	    'a b c', 'their edits stand in configured order');
};

subtest 'first in order counts first' => sub {
	like(deliver('decide'), qr/^550 5\.7\.1 .*by r1/, "attempt $_")
	    for 1 .. 5;
};

subtest 'while the message arrives' => sub {
	my $client = new_smtp(port => $port{'listen flow'});

	$client->command('EHLO client.sender.test');
	$client->command('MAIL FROM:<alice@sender.test>');
	$client->command('RCPT TO:<bob@example.test>');
	like($client->command('DATA'), qr/^354 /, 'DATA');
	$client->send("Subject: one\r\n\r\n");
	wait_for('the milter to hear', sub { heard('flow') =~ /L+N$/ });
	pass('the header is seen before there is a body');
	$client->send(join '', ('x' x 76 . "\r\n") x 1000);
	wait_for('the milter to hear', sub { heard('flow') =~ /NB$/ });
	pass('and the body before its end');
	$client->close;
	wait_for('the milter to hear', sub { heard('flow') =~ /BAQ?/ });
	like(heard('flow'), qr/OCHMRTL+NBA/,
	    'the client is gone: abort, no end');
};

subtest 'milters that die' => sub {
	like(deliver('body'), qr/^250 /, 'in the body: told again');
	like(heard('body'), qr/OCHMRTL+NBOCHMRTL+NBE/, 'all of it');
	like(deliver('end'), qr/^250 /, 'at the end: the default is accept');
	unlike(heard('end'), qr/E.*E/, 'the end is told once');
	like(deliver('replace'), qr/^451 /,
	    'amid a new body the default is not followed');
	like(deliver('endless'), qr/^550 /, 'progress has an end');
};

# What is counted of a milter in the shadow.
sub counted {
	my ($name) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
	    PeerPort => $metrics_port) or return '';
	print $socket "GET /metrics HTTP/1.0\r\n\r\n";
	return join '', sort map { "$1 " } join('', <$socket>) =~
	    /^millgate_milter_shadow_total\{filter="$name",(.*\} [1-9].*)/mg;
}

subtest 'milters in the shadow' => sub {
	my @id = map { /queued as (\w+)/ } deliver('shadow');

	is(@id, 1, 'accepted, though one would refuse');
	wait_for('the late one to be told', sub { heard('late') =~ /E/ });
	$gate->wait_log(qr/$id[0]: removed/);
	unlike($gate->log, qr/$id[0]: filter=late/,
	    'delivered before the late one has answered');
	my $told = qr/$id[0]: filter=no shadow=differ real=accept would: /;
	$gate->wait_log(qr/${told}reject 550 5\.7\.1 by no/);
	$gate->wait_log(
	    qr/$id[0]: filter=opendkim shadow=agree .*insert a field: 1/);
	push @id, deliver('shadow') =~ /queued as (\w+)/;
	for my $id (@id) {
		$gate->wait_log(qr/$id: filter=late shadow=agree real=accept / .
		    'would: accept \(add a field: 1\)');
		$gate->wait_log(qr/$id: removed/);
	}
	unlike(join('', mailbox("$gate->{dir}/mail")),
	    qr/^(X-late|DKIM-Signature)/m, 'nothing is applied');
	$gate->tells([ 'explain', $id[0] ],
	    qr/  shadow: agree\n.* late: would: h 0 X-late: yes/,
	    'explain tells of it');
	$gate->tells([ 'explain', $id[0] ], qr/message:\ accepted.*
	    shadow:\ differ\n\s+\S+\ no:\ would:\ reject\ 550/xs,
	    'and the verdict');
	wait_for('both to be counted', sub { counted('no') =~ / 2 / });
	is(counted('no'), 'result="differ",would="reject"} 2 ', 'counted');
	is(counted('late'), 'result="agree",would="accept"} 2 ', 'the late one');
};

my ($last) = deliver('shadow') =~ /queued as (\w+)/;
wait_for('the late one to be told', sub { heard('late') =~ /E.*E.*E/s });
is($gate->stop, 0, 'stops well');
$gate->logs(qr/$last: filter=late shadow=abandoned stage=eom: /,
    'the late one is given up then');
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
