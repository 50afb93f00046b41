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
    end => 'die-end', replace => 'die-replace', endless => 'endless');
my %port = map { $_ => free_port() } keys %mode;
my $script = write_file('milter-script',
    read_file(source_dir() . '/t/lib/milter-script'), 0644);
my $log = write_file('heard', '', 0666);

start_process('milters', [ as_nobody($^X, $script, $log,
    map { "$_=$port{$_}:$mode{$_}" } sort keys %mode) ]);
wait_for_port($_) for values %port;

my %listener = (group => [ qw(a b c) ], decide => [ qw(see r1 r2) ],
    map { $_ => [ $_ ] } qw(flow body end replace endless));
$port{"listen $_"} = free_port() for keys %listener;

sub milter {
	my ($name, $options) = @_;
	return "milter $name { endpoint = { \"127.0.0.1:$port{$name}\" } " .
	    "spare = 0 $options }\n";
}

my $gate = start_millgate(text => <<'END' . join '',
gateways = 1
relay_domains = { example.test }
dns_forwarders = { "127.0.0.1@9" }
dns_timeout = 100ms
route "*" { via = { "maildir:@DIR@/mail" } }
END
    (map { milter($_, 'group = side content_timeout = 10s') } qw(a b c)),
    (map { milter($_, 'group = two') } qw(see r1 r2)), milter('flow', ''),
    milter('body', ''), milter('end', 'default_action = accept'),
    milter('replace', 'default_action = accept'),
    milter('endless',
    'content_timeout = 5s total_timeout = 1s default_action = reject'),
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

is($gate->stop, 0, 'stops well');
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
