#!/usr/bin/perl
# Databases of addresses: read before the policy process is locked in, anew in a
# reload, refused if they are odd, and what reputation makes of an AS.

use strict;
use warnings;

use Millgate::GeoDatabase;
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(time);

needs_root('a policy process that is locked in');
make_accounts();

my $port = free_port();
my $database = test_dir() . '/asn.mmdb';

sub ases {
	my (%numbers) = @_;
	return geo_database(type => 'Test-ASN', networks => { map { $_ =>
	    { autonomous_system_number => $numbers{$_} } } keys %numbers });
}

# A new file takes the old one's place, as programs that fetch them do.
sub put_database {
	my ($bytes) = @_;
	rename write_file("$database.new", $bytes, 0600), $database or die;
}

my %unit = geo_unit_databases();
is read_file(source_dir() . "/t/unit/policy/$_"), $unit{$_},
    "$_ of the unit tests is what it is said to be" for sort keys %unit;

put_database(ases('127.0.7.0/24' => 64500, '127.0.8.0/24' => 64501));
my $server = start_millgate(as_root => 1, text => <<"END");
trusted_networks = { "192.0.2.0/24" }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { reputation }
}
policy {
	listen = { "127.0.0.1:$port" }
	services = { reputation }
	asn_database = "../asn.mmdb"
}
reputation { defer_above = 40 pass_below = 0 }
END

sub rep {
	my (@words) = @_;
	my (undef, $output) = $server->ctl('rep', @words);
	return $output;
}

sub attempt {
	my ($address) = @_;
	my $smtp = $server->smtp(local => $address);
	my $reply = $smtp->deliver;

	$smtp->close;
	return $reply;
}

subtest 'an AS stands for its networks' => sub {
	my ($pid) = $server->children('policy');
	my $postfix = start_postfix_asking($port);

	isnt readlink "/proc/$pid/root", '/', 'the policy process is locked in';
	like attempt($_), qr/^250 /, "$_ is nobody yet"
	    for '127.0.7.1', '127.0.8.1';
	rep('import', 'as:AS64500', join(',', (1e6, 300e6) x 3,
	    int(time * 1000), 0), '0,0,300,1');
	like attempt('127.0.7.2'), qr/^451 4\.7\.1 Much mail of 127\.0\.7\.2/,
	    'from an AS of spammers';
	like $postfix->{try}->('127.0.7.3'), qr/^4\d\d 4\.7\.1 .*127\.0\.7\.3/s,
	    'the same at Postfix';
	like attempt('127.0.8.2'), qr/^250 /, 'from another';
	like rep('why', 'address:127.0.7.2'),
	    qr/^prior of as:AS64500: spam=0\.99/m, 'told why';
	like rep('top', 'as'), qr/^as:AS64500 spam=/m, 'and which are worst';
	rep('pin', 'as:AS64500', 'good');
	like attempt('127.0.7.2'), qr/^250 /, 'pinned as good';
	rep('pin', 'as:AS64500', 'off');
	$postfix->{stop}->();
};

subtest 'new files' => sub {
	# Written over, which takes a mapped file from who reads it.
	truncate $database, 0 or die;
	like rep('why', 'address:127.0.7.9'), qr/^prior of as:AS64500:/m,
	    'what was read stays';
	my ($status, $output) = $server->ctl('reload');
	isnt $status, 0, 'an empty file is refused by a reload';
	like $output, qr/millgate\.conf:\d+: asn_database: .*read data/,
	    'which says why';
	put_database(ases('127.0.7.0/24' => 64511));
	($status, $output) = $server->ctl('reload');
	is $status, 0, 'a new one is read by a reload' or diag($output);
	like rep('why', 'address:127.0.7.9'), qr/^prior of as:AS64511:/m,
	    'which holds what is new';
	unlike rep('why', 'address:127.0.8.9'), qr/^prior of as:/m,
	    'and nothing that is old';

	# What was good when it was checked may be gone in a restart.
	unlink $database;
	my ($pid) = $server->children('policy');
	kill 'KILL', $pid;
	$server->wait_log(qr/asn_database: \S+: No such file .*we go on without/);
	wait_for('the policy process', sub { attempt('127.0.7.2') =~ /^250 / &&
	    rep('why', 'address:127.0.7.9') =~ /^prior of other mail/m });
	unlike rep('why', 'address:127.0.7.9'), qr/^prior of as:/m,
	    'without the file there is no AS';
};

subtest 'errors' => sub {
	my $good = ases('127.0.7.0/24' => 64500);
	my @bad = (
		[ 'garbage', "x\n" x 1000, qr/.*invalid metadata/ ],
		[ 'cut short', substr($good, 0, length($good) / 2),
		    qr/.*invalid metadata/ ],
		[ 'its end alone', substr($good, -200), qr/\S/ ],
		[ 'of countries', geo_countries('127.0.7.0/24' => 'DE'),
		    qr/no record tells the number of an AS/ ],
		[ 'missing', undef, qr/No such file/ ],
	);

	for (@bad) {
		my ($name, $bytes, $pattern) = @$_;

		defined $bytes ? put_database($bytes) : unlink $database;
		my ($status, $output) = run_command($server->command('-n'));
		is $status, 78, "$name: a configuration error";
		like $output, qr/millgate\.conf:\d+: asn_database: \S+asn\.mmdb: $pattern/,
		    "$name: where and why";
	}
};

is $server->stop, 0, 'ends';
ok sanitizers_silent($server->log), 'the sanitizers are silent';

done_testing;
