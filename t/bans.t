#!/usr/bin/perl
# Screening over a fleet: what a client does to one machine is known to all, by
# Redis; and users who log in are not screened out.

use strict;
use warnings;

use MIME::Base64;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $redis = start_redis();
my $dovecot = start_dovecot(users => { alice => 'secret' });
my $dns = start_dns('zen.test' => [ '2.0.0.127 A 127.0.0.2',
    '66.0.0.127 A 127.0.0.4' ]);
my @fleet = map { start_millgate(text => <<"END") } 1, 2;
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs} }
dns_timeout = 2s
store { type = redis server = { "127.0.0.1:$redis->{port}" } budget = 10s }
dnsbl { sites = { zen.test } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	screen = yes
	auth = "unix:$dovecot->{auth}"
	auth_without_tls = yes
}
screen { greet_wait = 100ms ban_offences = 3 tarpit = 100ms max_tarpit = 1 }
END

sub greeting {
	my ($server, $address) = @_;
	my $smtp = $server->smtp(local => $address);
	$smtp->close;
	return $smtp->{greeting};
}

subtest 'a ban' => sub {
	like greeting($fleet[1], '127.0.0.20'), qr/^220/, 'a stranger';
	my $smtp = $fleet[0]->smtp(local => '127.0.0.20');
	$smtp->command('NONSENSE') for 1 .. 3;
	$smtp->close;
	for my $server (@fleet) {
		wait_for('the ban', sub {
			return greeting($server, '127.0.0.20') =~
			    /^421 4\.7\.1 .*\[banned/;
		});
		pass 'is known to each';
	}
	is +($fleet[1]->ctl('ban', 'remove', '127.0.0.20'))[0], 0,
	    'and lifted by any';
	wait_for('its end', sub {
		return greeting($fleet[0], '127.0.0.20') =~ /^220/;
	});
};

subtest 'a user at a listed address' => sub {
	my $smtp = $fleet[0]->smtp(local => '127.0.0.66');

	$smtp->command('EHLO client.test');
	like $smtp->command('AUTH PLAIN ' . encode_base64("\0alice\0secret",
	    '')), qr/^235 /, 'logs in';
	$smtp->{greeted} = 1;
	like $smtp->deliver(to => 'somebody@elsewhere.test'), qr/^250 /,
	    'and sends mail';
	$smtp->command("NONSENSE $_") for 1 .. 9;
	$smtp->close;

	$smtp = $fleet[0]->smtp(local => '127.0.0.66');
	like $smtp->deliver, qr/^554 5\.7\.1 .*blocked using zen\.test/,
	    'others there may not';
	$smtp->close;
	unlike $fleet[0]->log, qr/client=127\.0\.0\.66\/32 banned/,
	    'a user\'s errors are no offences';
};

subtest 'guesses of passwords' => sub {
	my $smtp = $fleet[0]->smtp(local => '127.0.0.30');
	my $wrong = encode_base64("\0alice\0wrong", '');

	$smtp->command('EHLO client.test');
	1 while $smtp->command("AUTH PLAIN $wrong") =~ /^535/;
	$smtp->close;
	$fleet[0]->wait_log(qr/screen: client=127\.0\.0\.30\/32 banned/);
	pass 'are';
};

for my $server (@fleet) {
	is $server->stop, 0, 'ends';
	ok sanitizers_silent($server->log), 'sanitizers are silent';
}
done_testing;
