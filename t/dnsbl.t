#!/usr/bin/perl
# DNS lists, played by a real NSD: what they say of addresses and domains, to a
# real Postfix and to our own gateway; lists that fail their test; lists that do
# not answer.

use strict;
use warnings;

use IO::Socket::INET;
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(sleep time);

my $port = free_port();

# A server that never answers.
my $silent = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1',
    LocalPort => 0) or die "socket: $!";
my $dead = $silent->sockport;

# ::ffff:7f00:2 without its last digit, and 2001:db8::1.
my $rest6 = '.0' x 5 . '.f.7.f.f.f.f' . '.0' x 20;
my $stranger6 = '1' . '.0' x 23 . '.8.b.d.0.1.0.0.2';

# What RFC 5782 wants of every list, and one that we can mend.
my %zones = (
	'zen.test' => [ '2.0.0.127 A 127.0.0.2', '66.0.0.127 A 127.0.0.4',
	    '66.0.0.127 TXT "see http://zen.test/66"',
	    '67.0.0.127 A 127.0.0.10', '68.0.0.127 A 127.0.0.4',
	    '9.2.0.192 A 127.0.0.4',
	    "2$rest6 A 127.0.0.2", "$stranger6 A 127.0.0.3" ],
	'four.test' => [ '2.0.0.127 A 127.0.0.2', "$stranger6 A 127.0.0.3" ],
	'white.test' => [ '2.0.0.127 A 127.0.10.0',
	    '68.0.0.127 A 127.0.5.3' ],
	'dbl.test' => [ 'test A 127.0.1.2', 'bad.example A 127.0.1.2',
	    'bad.example TXT "bad domain"' ],
	'all.test' => [ '* A 127.0.0.2' ],
	'parked.test' => [ '* A 192.0.2.80' ],
	'empty.test' => [ '66.0.0.127 A 127.0.0.2' ],
	'broken.test' => [ 'this is no record' ],
	'mended.test' => [ '2.0.0.127 1 A 127.255.255.254' ]);
my $dns = start_dns(%zones);

sub conf {
	my (%more) = @_;
	my $options = $more{options} // '';

	return <<"END";
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs}, "dead.test=127.0.0.1\@$dead" }
dns_timeout = 2s
policy { listen = { "127.0.0.1:$port" } services = { dnsbl } }
listener smtp { address = { "127.0.0.1:\@PORT\@" } filters = { dnsbl } }
dnsbl {
	sites = { "zen.test=127.0.0.[2..9]*3", "zen.test=127.0.0.[10;11]*1",
	    "white.test=127.0.[0..255].[0..3]*-5", "all.test*9",
	    "parked.test*9", "empty.test*9", "mended.test*9", "dead.test*9",
	    "broken.test*9", "four.test*9" }
	domain_sites = { "dbl.test*4" }
	threshold = 2
	test_interval = 1s timeout = 500ms
	$options
}
END
}

sub ask { return ask_policy($port, @_) }

my $server = start_millgate(text => conf());

subtest 'lists are tested' => sub {
	$server->wait_log(qr/dnsbl: all\.test is switched off: it lists everything/);
	$server->wait_log(qr/dnsbl: parked\.test is switched off: it answers 192\.0\.2\.80, which is no listing/);
	$server->wait_log(qr/dnsbl: empty\.test is switched off: it does not have its test entry/);
	$server->wait_log(qr/dnsbl: mended\.test is switched off: it answers with the error 127\.255\.255\.254/);
	my ($status, $text) = $server->ctl('dnsbl');
	is $status, 0, 'millgatectl dnsbl';
	like $text, qr/^four\.test addresses on, but for IPv6: it does not have its test entry$/m,
	    'one knows IPv4 alone';
	like $text, qr/^zen\.test addresses on$/m, 'one is on';
	like $text, qr/^dbl\.test domains on$/m, 'one of domains, too';
	like $text, qr/^all\.test addresses off: it lists everything$/m,
	    'one is off, and why';
	($status, $text) = $server->ctl('dnsbl', '127.0.0.66');
	like $text, qr/^zen\.test 127\.0\.0\.4 weight 3$/m,
	    'what it says of an address';
	like $text, qr/^white\.test not listed$/m, 'and another';
	like $text, qr/^broken\.test no answer: SERVFAIL$/m,
	    'SERVFAIL is no answer, whatever was answered before';
	like $text, qr/^parked\.test 192\.0\.2\.80 weight 0 \(off: /m,
	    'and one that is off';
	($status, $text) = $server->ctl('dnsbl', 'bad.example');
	is $text, "dbl.test 127.0.1.2 weight 4\n", 'and of a domain';
};

subtest 'requests' => sub {
	my @cases = (
		[ 'a stranger', {}, qr/^action=DUNNO$/ ],
		[ 'listed', { client_address => '127.0.0.66' },
		    qr/^action=554 5\.7\.1 Service unavailable; Client host \[127\.0\.0\.66\] blocked using zen\.test; see http:\/\/zen\.test\/66$/ ],
		[ 'not enough', { client_address => '127.0.0.67' },
		    qr/^action=DUNNO$/ ],
		[ 'vouched for', { client_address => '127.0.0.68' },
		    qr/^action=DUNNO$/ ],
		[ 'IPv6', { client_address => '2001:db8::1' },
		    qr/^action=554 .*\[2001:db8::1\] blocked using zen\.test/ ],
		[ 'IPv4 in IPv6', { client_address => '::ffff:127.0.0.66' },
		    qr/^action=554 .*blocked using zen\.test/ ],
		[ 'a sender of a bad domain', { sender => 'x@Bad.Example' },
		    qr/^action=554 5\.7\.1 .*; Domain \[bad\.example\] blocked using dbl\.test; bad domain$/ ],
		[ 'a bad domain in HELO', { helo_name => 'bad.example' },
		    qr/^action=554 / ],
		[ 'when it connects', { client_address => '127.0.0.66',
		    protocol_state => 'CONNECT' }, qr/^action=554 / ],
		[ 'no address', { client_address => 'unknown' },
		    qr/^action=DUNNO$/ ],
		[ 'a forged domain of ours', { protocol_state =>
		    'END-OF-MESSAGE', auth_domains => 'dkim=bad.example' },
		    qr/^action=DUNNO$/ ],
	);

	for my $case (@cases) {
		my ($name, $attributes, $want) = @$case;
		like ask(%$attributes), $want, $name;
	}
	$server->wait_log(qr/policy: client=unknown\[127\.0\.0\.66\].*action=reject, by=dnsbl, reason=dnsbl \(3 points, 127\.0\.0\.66:zen\.test=127\.0\.0\.4\*3\)/);
};

subtest 'our own gateway' => sub {
	my $smtp = $server->smtp(local => '127.0.0.66');
	like $smtp->deliver, qr/^554 5\.7\.1 Service unavailable; Client host \[127\.0\.0\.66\] blocked using zen\.test; see http:\/\/zen\.test\/66 \[dnsbl \w+\]/,
	    'a listed client is refused at RCPT';
	$smtp->close;
	like $server->smtp(local => '127.0.0.68')->deliver, qr/^250 /,
	    'one that is vouched for is let in';
	like $server->smtp(local => '127.0.0.5')->deliver(
	    from => 'x@bad.example'), qr/^554 .*Domain \[bad\.example\]/,
	    'a bad domain is refused';
	$server->logs(qr/reject: RCPT from \S+\[127\.0\.0\.66\]: 554 5\.7\.1 .* from=<alice\@sender\.test> to=<bob\@example\.test>/,
	    'logged with its recipient');
};

subtest 'Postfix' => sub {
	my $postfix = start_postfix_asking($port);

	like $postfix->{try}->('127.0.0.66'),
	    qr/^554 5\.7\.1 .*Service unavailable; Client host \[127\.0\.0\.66\] blocked using zen\.test; see http/,
	    'Postfix refuses a listed client';
	like $postfix->{try}->('127.0.0.67'), qr/^250 /, 'and takes mail of others';
	$postfix->{stop}->();
};

subtest 'a list is mended' => sub {
	my $path = test_dir() . '/nsd/mended.test.zone';
	my $text = read_file($path);

	$text =~ s/127\.255\.255\.254/127.0.0.2/;
	$text =~ s/ 1 60 60 60 60/ 2 60 60 60 60/;
	write_file($path, $text . "70.0.0.127 A 127.0.0.9\n");
	kill 'HUP', $dns->{pid};
	$server->wait_log(qr/dnsbl: mended\.test is on again/);
	like ask(client_address => '127.0.0.70'),
	    qr/blocked using mended\.test/, 'and counts';
};

subtest 'a list that does not answer' => sub {
	my $begin = time;

	ask(client_address => "198.51.100.$_") for 1 .. 20;
	ok time - $begin < 15, 'keeps nobody for long';
	$server->logs(qr/dnsbl: dead\.test does not answer/, 'is logged');
	is scalar(() = $server->log =~ /dead\.test does not answer/g), 1,
	    'once';
	like [ $server->ctl('dnsbl') ]->[1],
	    qr/^dead\.test addresses does not answer$/m, 'and shown';
};

is $server->stop, 0, 'ends';

subtest 'what is done' => sub {
	my $warner = start_millgate(text => conf(options => 'action = warn'));
	$warner->wait_log(qr/all\.test is switched off/);
	like $warner->smtp(local => '127.0.0.66')->deliver, qr/^250 /,
	    'warn: mail is let in';
	$warner->wait_log(qr/policy: client=\S+\[127\.0\.0\.66\].*action=dunno, by=dnsbl, reason=dnsbl/);
	is $warner->stop, 0, 'ends';

	my $deferrer = start_millgate(text => conf(options =>
	    'action = defer names = { "zen.test = public.example" }'));
	like $deferrer->smtp(local => '127.0.0.66')->deliver,
	    qr/^450 4\.7\.1 .*blocked using public\.example; see/,
	    'defer, and the name of a site is not told';
	is $deferrer->stop, 0, 'ends';
};

subtest 'errors in the configuration' => sub {
	my %errors = ('zen.test*x' => 'a weight is a number such as 3 or -2',
	    'zen.test=192.0.2.1' => 'lists answer within 127.0.0.0/8',
	    'zen.test=127.0.0.2.3' => 'something is left over behind it');

	for my $site (sort keys %errors) {
		my $broken = start_millgate(only_configure => 1,
		    text => "dnsbl {\nsites = { \"$site\" }\n}\n");
		my ($status, $text) = run_command($broken->command('-n'));
		is $status, 78, "$site is refused";
		like $text, qr/millgate\.conf:\d+: .*\Q$site: $errors{$site}\E/,
		    'and why';
	}
};

done_testing;
