#!/usr/bin/perl
# Access lists and known correspondents: through our own gateway and for a real
# Postfix, entries of the configuration and of millgatectl, over both back ends.

use strict;
use warnings;

use MIME::Base64;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $dns = start_dns(test => [ map { qq{$_ TXT "v=spf1 ip4:127.0.0.1 -all"} }
    qw(friend mail.friend) ]);

my $bob = 'bob@example.test';

# Mail from address (127.0.0.1 unless told) as that sender.
sub attempt {
	my ($server, $from, $to, %options) = @_;
	my $smtp = $server->smtp(%options);
	my $reply = $smtp->deliver(from => $from, to => $to);

	$smtp->close;
	return $reply;
}

sub ctl_ok {
	my ($server, $want, @words) = @_;
	my ($status, $output) = $server->ctl(@words);

	is $status, 0, "@words";
	like $output, $want, 'and says so';
}

sub start_gateway {
	my ($port, $store) = @_;
	return start_millgate(text => <<"END" . $store);
gateways = 1
trusted_networks = { "127.0.0.9" }
dns_stubs = { $dns->{stubs} }
dns_timeout = 1s
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	filters = { watched, spf, correspondents, friends, blocked, greylist,
	    rules }
}
rule known { when = "result('correspondents') == 'pass'"  score = -3 }
access_list friends { action = allow entries = { "127.0.0.8/29" } }
access_list blocked { entries = { ".bad.test" } message = "Go away" }
access_list watched { action = hold entries = { "watched.test" } message = "To be seen" }
greylist { delay = 1h }
policy { listen = { "127.0.0.1:$port" } services = { owners, blocked, correspondents } }
sender_owner owners { owners = { "alice\@example.test = alice" } }
END
}

my $greylisted = qr/^451 4\.7\.1 Greylisted/;

# What the store holds counts for a Postfix, too.
sub for_postfix {
	my ($server, $port) = @_;

	ctl_ok($server, qr/added/, qw(list add blocked spam.test));
	my $dovecot = start_dovecot(users => { alice => 'secret' });
	my $postfix = start_postfix(main => {
	    smtpd_sasl_auth_enable => 'yes', smtpd_sasl_type => 'dovecot',
	    smtpd_sasl_path => $dovecot->{auth},
	    mydestination => 'example.test', local_recipient_maps => '',
	    local_transport => 'discard', mynetworks => '192.0.2.0/24',
	    smtpd_relay_restrictions => 'reject_unauth_destination',
	    smtpd_recipient_restrictions =>
		"check_policy_service inet:127.0.0.1:$port" });
	my $try = sub {
		my ($from, $to, $login) = @_;
		my $smtp = new_smtp(port => $postfix->{port});
		if ($login) {
			$smtp->command('EHLO client.test');
			like $smtp->command('AUTH PLAIN ' . encode_base64(
			    "\0$login\0secret", '')), qr/^235/, 'log in';
		}
		my $reply = $smtp->deliver(from => $from, to => $to // $bob);
		$smtp->close;
		return $reply;
	};
	like $try->('x@spam.test'), qr/^550 5\.7\.1 .*Go away/s,
	    'Postfix refuses it, too';
	like $try->('x@good.test'), qr/^250 /, 'but not others';

	like $try->('alice@example.test'),
	    qr/^553 5\.7\.1 .*Sender address rejected: not logged in/s,
	    'nor who writes as a user without login';
	like $try->('bob@example.test', undef, 'alice'),
	    qr/^553 5\.7\.1 .*not owned by user alice/s,
	    'nor a user as another';
	like $try->('alice@example.test', undef, 'alice'), qr/^250 /,
	    'a user may send as itself';
	$postfix->{stop}->();
	ctl_ok($server, qr/removed/, qw(list remove blocked spam.test));
}

sub lists {
	my ($server) = @_;
	like attempt($server, 'x@a.bad.test', $bob),
	    qr/^550 5\.7\.1 Go away \[list-denied /,
	    'an entry of the configuration refuses';
	like attempt($server, 'x@spam.test', $bob), $greylisted,
	    'who is on no list is a stranger';
	like attempt($server, 'x@spam.test', $bob, local => '127.0.0.10'),
	    qr/^250 /, 'a client that is allowed passes greylisting';

	ctl_ok($server, qr/^blocked: spam\.test added$/m, qw(list add blocked
	    Spam.test for 1h because they spam));
	ctl_ok($server, qr/^blocked: 127\.0\.0\.3\/32 added$/m,
	    qw(list add blocked 127.0.0.3));
	ctl_ok($server, qr/^blocked 127\.0\.0\.3\/32$/m, qw(list show));
	ctl_ok($server, qr/^blocked spam\.test for (?:60|59)m because they spam$/m,
	    qw(list show blocked));
	like attempt($server, 'x@spam.test', $bob), qr/^550 5\.7\.1 Go away/,
	    'an entry of millgatectl refuses';
	like attempt($server, 'y@other.test', $bob, local => '127.0.0.3'),
	    qr/^550 5\.7\.1 Go away/, 'so does one of a client';
	$server->wait_log(qr/policy: client=\S+, from=<x\@spam\.test>, to=<bob\@example\.test>, state=RCPT, action=reject, by=blocked, reason=list-denied \(spam\.test: they spam\)/);

	my ($status, $output) = $server->ctl(qw(list add blocked nonsense));
	isnt $status, 0, 'what is no entry is refused';
	like $output, qr/not a network, domain/, 'and why';

	ctl_ok($server, qr/^blocked: spam\.test removed$/m,
	    qw(list remove blocked spam.test));
	like attempt($server, 'x@spam.test', $bob), $greylisted,
	    'taken out, it is a stranger again';
}

# For all its recipients, until it is released.
sub holds {
	my ($server) = @_;
	my ($id) = attempt($server, 'x@watched.test', [ $bob, 'y@example.test' ],
	    local => '127.0.0.10') =~ /^250 .*\b(1\w{15})\b/;

	ok defined $id, 'what is to be held is taken';
	$server->wait_log(qr/$id: filter=watched stage=rcpt action=hold reason=list-denied text="To be seen"/);
	ctl_ok($server, qr/^\Q$id\E .* held /m, qw(queue list));
	ctl_ok($server, qr/^held because: To be seen$/m, qw(queue show), $id);
	ctl_ok($server, qr/released/, qw(queue release), $id);
	$server->wait_log(qr/$id: to=<\Q$_\E>.*status=sent/)
	    for $bob, 'y@example.test';
	pass 'then it is delivered';
}

sub proofs {
	my ($server) = @_;

	ctl_ok($server, qr/added/, qw(list add friends friend.test));
	like attempt($server, 'a@friend.test', 'p@example.test'), $greylisted,
	    'before the message is there, nothing is proven';
	ctl_ok($server, qr/added/, qw(list add friends to:p@example.test));
	like attempt($server, 'a@friend.test', 'p@example.test'), qr/^250 /,
	    'a recipient that is allowed';
	ctl_ok($server, qr/removed/, qw(list remove friends to:p@example.test));
	ctl_ok($server, qr/added/, qw(list add friends friend.test from
	    127.0.0.4/30));
	like attempt($server, 'a@friend.test', 'q@example.test',
	    local => '127.0.0.5'), qr/^250 /,
	    'a sender from the network that its entry names';
	like attempt($server, 'a@friend.test', 'q@example.test',
	    local => '127.0.0.3'), qr/^550 /, 'from another it is not';
}

# At the end of a message a proven domain may be refused, or spare it that.
sub at_the_end {
	my ($server) = @_;
	my @to = ('r@example.test', 's@example.test');
	my @mail = ('a@mail.friend.test', \@to);

	ctl_ok($server, qr/added/, qw(list add friends), "to:$_") for @to;
	ctl_ok($server, qr/added/, qw(list add blocked .friend.test));
	like attempt($server, $mail[0], $to[0]), qr/^250 /,
	    'a recipient that is allowed is so to the end';
	like attempt($server, @mail), qr/^550 5\.7\.1 Go away/,
	    'with others, a proven domain is refused at the end';
	ctl_ok($server, qr/added/, qw(list add friends mail.friend.test));
	like attempt($server, @mail), qr/^250 /, 'unless it is allowed before';
	ctl_ok($server, qr/removed/, qw(list remove blocked .friend.test));
}

sub correspondents {
	my ($server) = @_;
	my @friend = ('a@friend.test', 'user@example.test');

	ctl_ok($server, qr/removed/, qw(list remove friends friend.test));
	like attempt($server, @friend), $greylisted, 'a stranger';
	like attempt($server, 'user@example.test', 'a@friend.test',
	    local => '127.0.0.9'), qr/^250 /, 'our user writes to it';
	# It is authentic at the end of a message, which greylisting does not
	# let it come to; a recipient that is allowed lets it.
	like attempt($server, @friend), $greylisted, 'not proven yet';
	ctl_ok($server, qr/added/, qw(list add friends to:user@example.test));
	unlike $server->log, qr/rules="known/, 'rules do not know it';
	like attempt($server, @friend), qr/^250 /, 'it gets to its end';
	$server->wait_log(qr/rules="known:-3"/);
	pass 'where rules do';
	ctl_ok($server, qr/removed/,
	    qw(list remove friends to:user@example.test));
	wait_for('the network to be known', sub {
		attempt($server, @friend) =~ /^250 / });
	pass 'from its network it passes greylisting';
	$server->wait_log(qr/policy: client=\S+, from=<a\@friend\.test>, to=<user\@example\.test>, state=RCPT, action=pass, by=correspondents \(known correspondent\)/);
	like attempt($server, $friend[0], 'other@example.test'), $greylisted,
	    'to another of us it is a stranger';
}

for my $store ('sqlite', 'redis') {
	subtest $store => sub {
		my $port = free_port();
		my $redis = $store eq 'redis' ? start_redis() : undef;
		my $server = start_gateway($port, $redis ? <<"END" : '');
store { type = redis server = { "127.0.0.1:$redis->{port}" } budget = 10s }
END
		lists($server);
		holds($server);
		proofs($server);
		at_the_end($server);
		correspondents($server);
		# Once is enough.
		for_postfix($server, $port) unless $redis;
		is $server->stop, 0, 'ends';
		ok sanitizers_silent($server->log), 'sanitizers are silent';
	};
}

done_testing;
