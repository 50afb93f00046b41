#!/usr/bin/perl
# The outbound guard: what is more than usual, from country to country, its mail
# to the postmaster, and what the operator does: mail that is held, an account
# that is suspended.

use strict;
use warnings;

use MIME::Base64;
use Millgate::GeoDatabase;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $port = free_port();
my $dovecot = start_dovecot(users => { map { $_ => 'secret' }
    qw(alice bob carol) });
write_file('country.mmdb', geo_countries('127.0.7.0/24' => 'DE',
    '127.0.8.0/24' => 'NG', '127.0.9.0/24' => 'BR'), 0644);
# A gateway whose users the guard watches, with more options of its policy and
# of the guard.
sub start_guarded {
	my ($policy_port, $policy, $guard) = @_;
	return start_millgate(text => <<"END");
gateways = 1
policy {
	listen = { "127.0.0.1:$policy_port" }
	services = { outbound_guard }
	$policy
}
route example.test { via = { "maildir:\@DIR\@/mail" } }
route post.test { via = { "maildir:\@DIR\@/postmaster" } }
listener submission {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
	auth = "unix:$dovecot->{auth}"
	auth_without_tls = yes
	filters = { outbound_guard }
}
outbound_guard {
	bounces = 1
	suspend = 1h
	$guard
}
END
}

# A Postfix that asks the guard.
sub start_asking {
	my ($policy_port) = @_;

	needs_root('a Postfix');
	return start_postfix(main => {
	    smtpd_sasl_auth_enable => 'yes', smtpd_sasl_type => 'dovecot',
	    smtpd_sasl_path => $dovecot->{auth},
	    mydestination => 'example.test', local_recipient_maps => '',
	    local_transport => 'discard',
	    smtpd_recipient_restrictions =>
		"check_policy_service inet:127.0.0.1:$policy_port" });
}

my $server = start_guarded($port, 'country_database = "../country.mmdb"',
    'notify = { "root@post.test" }');
my $directory = $server->{dir};

sub attempt {
	my ($to_port, $user, $address, @to) = @_;
	my $smtp = new_smtp(port => $to_port, local => $address);

	$smtp->command('EHLO client.test');
	like $smtp->command('AUTH PLAIN ' . encode_base64("\0$user\0secret",
	    '')), qr/^235/, "$user logs in from $address";
	$smtp->{greeted} = 1;
	my $reply = $smtp->deliver(from => "$user\@example.test",
	    to => @to ? \@to : 'bob@example.test',
	    data => message(Subject => "of $user"));
	$smtp->close;
	return $reply;
}

# How many mails the postmaster has of that subject, once there is one.
sub told {
	my ($subject) = @_;
	my $count = sub { scalar grep
	    { /^Subject: Outbound guard: \Q$subject\E\r?$/m }
	    mailbox("$directory/postmaster") };

	wait_for("mail that $subject", $count);
	return $count->();
}

# How much of alice's mail, less the bounces with a copy of it.
sub arrived {
	return scalar grep { (split /\r?\n\r?\n/)[0] =~
	    /^Subject: of alice\r?$/m } mailbox("$directory/mail");
}

sub held {
	my (undef, $output) = $server->ctl(qw(queue list));
	return $output;
}

subtest 'held, released, suspended, released' => sub {
	like attempt($server->{port}, 'alice', '127.0.0.1',
	    map { "u$_\@nowhere.test" } 1 .. 3), qr/^250 /,
	    'three recipients who do not exist';
	$server->wait_log(qr/warning: guard: user=alice action=hold measure=bounces count=3 limit=1$/m);
	is arrived(), 0, 'nothing has arrived but the bounce';
	my $reply = attempt($server->{port}, 'alice', '127.0.0.1',
	    'bob@example.test', map { "v$_\@nowhere.test" } 1 .. 3);
	like $reply, qr/^250 /, 'more is taken';
	$server->wait_log(qr/by=outbound_guard, reason=guard-hold/);
	like attempt($server->{port}, 'alice', '127.0.0.1'), qr/^250 /,
	    'and more';
	unlike $server->log, qr/: to=<v1\@nowhere\.test>/, 'but not sent';
	my @ids = held() =~ /^(\w+) .*\bheld?\b/mg;
	is @ids, 2, 'both are in the queue' or diag(held());
	is arrived(), 0, 'none has arrived';
	is told('alice has its mail held'), 1, 'the postmaster hears of it once';
	my ($mail) = grep /has its mail held/, mailbox("$directory/postmaster");
	like $mail, qr/^To: <root\@post\.test>\r?$/m, 'To';
	like $mail, qr/^From: .*<MAILER-DAEMON\@mx\.example\.test>\r?$/m,
	    'From';
	like $mail, qr/^    3 bounces in an hour, above 1 is unusual\.\r?$/m,
	    'why';
	like $mail, qr/^Auto-Submitted: auto-generated\r?$/m, 'not to answer';
	like $mail, qr/^Return-Path: <>\r?$/m, 'nor to bounce';

	# The operator lets go of it, and regrets that.
	for (@ids) {
		my ($status, $output) = $server->ctl(qw(queue release), $_);
		is $status, 0, "$_ is released" or diag($output);
	}
	wait_for('what was held', sub { arrived() == 2 });
	pass 'what was held arrives';
	$server->wait_log(qr/warning: guard: user=alice action=suspend measure=bounces count=5 limit=1$/m);
	like attempt($server->{port}, 'alice', '127.0.0.1'),
	    qr/^550 5\.7\.1 This account is suspended/, 'suspended'
	    for 1 .. 2;
	is told('alice is suspended'), 1, 'the postmaster hears of that once';
	is told('alice has its mail held'), 1, 'and no more of the other';
	my (undef, $shown) = $server->ctl(qw(guard show alice));
	like $shown, qr/^alice suspended for=3\d\d\d /, 'as it says';
	my ($status) = $server->ctl(qw(guard release alice));
	is $status, 0, 'released';
	like attempt($server->{port}, 'alice', '127.0.0.1'), qr/^250 /,
	    'for good';
};

subtest 'several countries' => sub {
	like attempt($server->{port}, 'bob', '127.0.7.1'), qr/^250 /,
	    'from home';
	like attempt($server->{port}, 'bob', '127.0.8.1'),
	    qr/^450 4\.7\.1 You send from more countries than usual/,
	    'from another country at the same time';
	$server->wait_log(qr/guard: user=bob action=slow measure=countries count=2 limit=1 country=NG$/m);
	like attempt($server->{port}, 'bob', '127.0.9.1'), qr/^250 /,
	    'and another';
	like held(), qr/\bbob\@example\.test\b/, 'which is held';
	my (undef, $shown) = $server->ctl(qw(guard show bob));
	like $shown, qr{^bob hold .* countries=3/1 home=DE new=NG,BR$}m,
	    'guard show';
	is told('bob has its mail held'), 1, 'the postmaster hears of it';
	like join('', mailbox("$directory/postmaster")),
	    qr/3 countries in an hour, .*; from country BR\./, 'and from where';
	$server->ctl(qw(guard release bob));
	like attempt($server->{port}, 'bob', '127.0.7.1'), qr/^250 /,
	    'released, from home';
	like attempt($server->{port}, 'bob', '127.0.0.1'), qr/^250 /,
	    'from an address of no known country';
};

subtest 'Postfix' => sub {
	my $postfix = start_asking($port);

	like attempt($postfix->{port}, 'carol', '127.0.7.1'), qr/^250 /,
	    'from home';
	like attempt($postfix->{port}, 'carol', '127.0.8.1'),
	    qr/^450 4\.7\.1 .*more countries/, 'from another country';
	like attempt($postfix->{port}, 'carol', '127.0.9.1'), qr/^250 /,
	    'and another';
	wait_for('Postfix to hold it', sub {
	    glob "$postfix->{dir}/queue/hold/*" });
	pass 'which Postfix holds';
	is told('carol has its mail held'), 1,
	    'the postmaster hears of users of Postfix, too';
	$postfix->{stop}->();
};

subtest 'more than usual' => sub {
	my $policy_port = free_port();
	my $strict = start_guarded($policy_port, '', 'messages = 3');
	my $send = sub {
		my ($to_port, $user, @to) = @_;
		return attempt($to_port, $user, '127.0.0.1', @to);
	};

	like $send->($strict->{port}, 'alice'), qr/^250 /, 'as usual'
	    for 1 .. 3;
	like $send->($strict->{port}, 'alice'),
	    qr/^450 4\.7\.1 You send more than usual, try again in \d+ seconds/,
	    'one more has to wait';
	$strict->wait_log(qr/warning: guard: user=alice action=slow measure=messages count=4 limit=3/);
	$strict->logs(qr/by=outbound_guard, reason=guard-slow/, 'logged');
	my ($status, $output) = $strict->ctl(qw(guard show));
	like $output, qr{^alice calm messages=3/3 recipients=3/200 new_recipients=1/100 bounces=0/1$}m,
	    'guard show';
	($status, $output) = $strict->ctl(qw(guard release alice));
	is $status, 0, 'guard release';
	like $send->($strict->{port}, 'alice',
	    map { "u$_\@nowhere.test" } 1 .. 6), qr/^250 /,
	    'six recipients who do not exist';
	# A bounce that is told after the release would count anew.
	$strict->tells([ qw(guard show alice) ],
	    qr{^alice suspended for=3\d\d\d .* bounces=6/1$}m,
	    'which suspends the account');
	like $send->($strict->{port}, 'alice'),
	    qr/^550 5\.7\.1 This account is suspended/, 'as it is told';
	$strict->ctl(qw(guard release alice));
	like $send->($strict->{port}, 'alice'), qr/^250 /,
	    'until it is released';

	my $postfix = start_asking($policy_port);
	like $send->($postfix->{port}, 'carol'), qr/^250 /, 'Postfix: usual'
	    for 1 .. 3;
	like $send->($postfix->{port}, 'carol'),
	    qr/^450 4\.7\.1 .*You send more than usual/s,
	    'Postfix: one more has to wait';
	$postfix->{stop}->();
	is $strict->stop, 0, 'ends';
};

my @mail = mailbox("$directory/postmaster");
cmp_ok @mail, '<=', 6, 'no more mail than levels';
is $server->stop, 0, 'ends';
ok sanitizers_silent($server->log), 'the sanitizers are silent';

done_testing;
