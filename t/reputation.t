#!/usr/bin/perl
# Reputation: what the operator reports of a client and a user decides what
# Postfix and our own gateway do with their next mail, on both back ends.

use strict;
use warnings;

use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(time);

my $port = free_port();

# The client is 127.0.0.1, which must not be trusted here.
sub configuration {
	my ($more) = @_;
	return <<"END" . ($more // '');
trusted_networks = { "192.0.2.0/24" }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { reputation, greylist }
}
policy {
	listen = { "127.0.0.1:$port" }
	services = { reputation, greylist }
}
reputation { reject_above = 90 defer_above = 60 }
END
}

sub attempt {
	my ($server, %options) = @_;
	my $smtp = new_smtp(port => $server->{port});
	my $reply = $smtp->deliver(to => 'bob@example.test', %options);

	$smtp->close;
	return $reply;
}

sub rep {
	my ($server, @words) = @_;
	my ($status, $out) = $server->ctl('rep', @words);
	return $out;
}

# The record of somebody of whom so much good and bad was just heard.
sub heard {
	my ($server, $entity, $good, $bad) = @_;
	my @weights = map { ($good * 1e6, $bad * 1e6) } 1 .. 3;

	return rep($server, 'import', $entity, join(',', @weights,
	    int(time * 1000), 0), "0,0,$bad,$good");
}

sub story {
	my ($back_end, $more) = @_;
	my $server = start_millgate(text => configuration($more));
	my $postfix = start_postfix_asking($port);

	like attempt($server), qr/^451 4\.7\.1 Greylisted/,
	    "$back_end: a stranger is greylisted, no more";
	like rep($server, 'show', 'address:127.0.0.1'),
	    qr/^address:127\.0\.0\.1 spam=0\.500 between=.* score=0$/m,
	    "$back_end: nothing is known";

	# Well known: past greylisting, here and at Postfix.
	heard($server, 'address:127.0.0.1', 200, 0);
	like attempt($server), qr/^250 /, "$back_end: a good client passes";
	like attempt($postfix), qr/^250 /, "$back_end: at Postfix, too";
	$server->logs(qr/by=address:127\.0\.0\.1/,
	    "$back_end: the log says by what");

	# A burst of spam outweighs it at once.
	heard($server, 'address:127.0.0.1', 80, 250);
	like attempt($server), qr/^4\d\d 4\.7\.1 .*127\.0\.0\.1 is spam/s,
	    "$back_end: spam makes it wait";
	heard($server, 'address:127.0.0.1', 1, 300);
	like attempt($server), qr/^550 5\.7\.1 .*127\.0\.0\.1 is spam/s,
	    "$back_end: more is the end";
	like attempt($postfix), qr/^5\d\d 5\.7\.1 .*127\.0\.0\.1 is spam/s,
	    "$back_end: at Postfix, too";
	rep($server, 'report', 'trap', 'q7', 'address:127.0.0.1') for 1 .. 3;

	my $why = rep($server, 'why', 'address:127.0.0.1');
	like $why, qr/^heard of: spam=300 ham=1 trap=1,/m,
	    "$back_end: told why";
	like $why, qr/^ +hour +good=\S+ bad=\d{3}/m, "$back_end: weights";
	like $why, qr/^prior of network:127\.0\.0\.0\/24: /m,
	    "$back_end: priors";
	like $why, qr/^event \S+ trap q7 good=0\.0 bad=5\.0$/m,
	    "$back_end: events";
	like rep($server, 'top', '1', 'address'), qr/^address:127\.0\.0\.1 /m,
	    "$back_end: it heads the list";

	# Pinned, exported, forgotten, imported.
	rep($server, 'pin', 'address:127.0.0.1', 'good', 'for', '1h');
	like attempt($server), qr/^250 /, "$back_end: pinned as good";
	my ($line) = rep($server, 'export', 'address') =~
	    /^(address:127\.0\.0\.1 .*)$/m;
	rep($server, 'forget', $_)
	    for qw(address:127.0.0.1 network:127.0.0.0/24 all);
	like attempt($server), qr/^451 /, "$back_end: forgotten";
	rep($server, 'import', split / /, $line);
	like attempt($server), qr/^250 /, "$back_end: imported";
	rep($server, 'pin', 'address:127.0.0.1', 'off');
	like attempt($server), qr/^550 /, "$back_end: with all that it was";

	my ($status, $out) = $server->ctl('rep', 'show', 'planet:x');
	isnt $status, 0, "$back_end: no such entity";
	is $server->stop, 0, "$back_end: ends";
	$postfix->{stop}->();
}

subtest 'SQLite' => sub { story('SQLite') };

subtest 'Redis' => sub {
	my $redis = start_redis();

	story('Redis', <<"END");
store { type = redis server = { "127.0.0.1:$redis->{port}" } budget = 10s }
END
	stop_process($redis->{pid}, 'KILL');
};

done_testing;
