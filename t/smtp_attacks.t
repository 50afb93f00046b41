# What hostile clients try: SMTP smuggling, open relay, injected commands.

use strict;
use warnings;

use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $normalize = free_port();
my $sink = start_sink();
my $gate = start_millgate(text => <<"END");
gateways = 1
relay_domains = { example.test }
trusted_networks = { "192.0.2.0/24" }
route "*" { via = { "smtp:[127.0.0.1]:$sink->{port}" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	max_errors = 1000
}
listener normalize {
	address = { "127.0.0.1:$normalize" }
	bare_newline = normalize
}
END

# How many messages have been queued so far, by sessions that all have ended.
sub queued {
	wait_for('the log', sub {
		my $begun = () = $gate->log =~ /: connect from/g;
		return $begun == (() = $gate->log =~ /: disconnect from/g);
	});
	my $count = () = $gate->log =~ /\(queued\)/g;
	return $count;
}

sub name {
	my ($bytes) = @_;
	return join ' ', map { { "\r" => 'CR', "\n" => 'LF', "\0" => 'NUL',
	    "\x0b" => 'VT', "\x0c" => 'FF' }->{$_} // ($_ gt "\x7e" ?
	    sprintf('%02x', ord) : $_ eq ' ' ? 'SP' : $_) } split //, $bytes;
}

# End-of-data sequences that are none.  CR CR LF . CR LF ends in one that is.
my @ends = ("\n.\n", "\n.\r", "\r.\n", "\r.\r", "\n.\r\n", "\r.\r\n",
    "\r\n.\n", "\r\n.\r", "\r\n\0.\r\n", "\r\n.\0\r\n", "\r\n.\r\r\n",
    "\r\r\n.\r\r\n", "\r\r\n.\r\n", "\n\n.\r\n",
    "\x0b.\x0b", "\x0b.\r\n", "\r\n.\x0b\r\n", "\x0c.\x0c", "\x0c.\r\n",
    "\r\n.\x0c\r\n", "\x85.\x85", "\xc2\x85.\xc2\x85", "\xc2\x85.\r\n",
    "\r\n.\xc2\x85", "\xe2\x80\xa8.\xe2\x80\xa8", "\xe2\x80\xa8.\r\n",
    "\r\n\xef\xbc\x8e\r\n", "\r\n. \r\n", "\r\n .\r\n", "\r\n.\t\r\n");

# Sends a message with another one hidden behind that end; its replies.
sub smuggle {
	my ($port, $end, $number) = @_;
	my $smtp = new_smtp(port => $port);
	my @replies;

	$smtp->command('EHLO client.test');
	$smtp->command('MAIL FROM:<a@sender.test>');
	$smtp->command('RCPT TO:<bob@example.test>');
	$smtp->command('DATA');
	$smtp->send("Subject: outer\r\nX-Number: $number\r\n\r\nouter$end" .
	    "MAIL FROM:<inner\@sender.test>\r\n" .
	    "RCPT TO:<inner\@example.test>\r\nDATA\r\n" .
	    "Subject: inner\r\n\r\ninner\r\n.\r\nQUIT\r\n");
	while ((my $reply = $smtp->reply) ne '') {
		push @replies, $reply;
		last if $reply =~ /^221/;
	}
	return @replies;
}

sub taken {
	return scalar grep { /^250 2\.0\.0 Ok: queued/ } @_;
}

subtest 'smuggling, refused' => sub {
	my $before = queued();
	my $accepted = 0;

	for my $end (@ends) {
		my @replies = smuggle($gate->{port}, $end, 'reject');
		my $bare = $end =~ /\r(?!\n)|(?<!\r)\n|\0/;

		if ($bare) {
			like $replies[0], qr/^550 5\.[56]\.\d /, name($end);
			is taken(@replies), 0, 'nothing is taken';
		} else {
			is taken(@replies), 1, name($end) . ': one message';
			is scalar(@replies), 2, 'which is all' or
			    diag @replies;
			$accepted++;
		}
	}
	is queued(), $before + $accepted, 'nothing else is queued';
};

subtest 'smuggling, normalized' => sub {
	my $before = queued();
	my $number = 0;

	for my $end (@ends) {
		my @replies = smuggle($normalize, $end, 'n' . $number++);
		is taken(@replies), 1, name($end) . ': one message' or
		    diag @replies;
	}
	is queued(), $before + @ends, 'nothing else is queued';
};

subtest 'what the next hop got' => sub {
	my $all = queued();
	my @messages;

	wait_for('all messages at the next hop', sub {
		return (@messages = $sink->messages) >= $all;
	});
	is scalar(@messages), $all, 'as many as were queued';
	is scalar(grep { /\r(?!\n)|(?<!\r)\n|\0/ } @messages), 0,
	    'CR and LF stand in pairs only, and there is no NUL';
	is scalar(grep { /^\.(?!\.)/m } @messages), 0, 'dots are doubled';
	is scalar(grep { /^RCPT TO:<inner/i } $sink->commands), 0,
	    'the inner recipient was never named';
	for my $number (0 .. $#ends) {
		my ($message) = grep { /^X-Number: n$number\r/m } @messages;

		next if $ends[$number] eq "\r\r\n.\r\n";
		like $message, qr/^outer.*^RCPT TO:<inner.*^inner\r\n\z/ms,
		    name($ends[$number]) . ' hides nothing';
	}
};

# Whatever these mean to some server, they are not for strangers here.
no warnings 'qw';
my @relay = qw(user@elsewhere.test user@[192.0.2.9] user@[IPv6:2001:db8::1]
    user@[127.0.0.1] user@localhost user%elsewhere.test@example.test
    user%elsewhere.test@mx.example.test user%elsewhere.test@[127.0.0.1]
    user%elsewhere.test user@elsewhere.test@example.test
    "user@elsewhere.test" "user@elsewhere.test"@example.test
    "user%elsewhere.test" "user%elsewhere.test"@example.test
    elsewhere.test!user elsewhere.test!user@example.test
    "elsewhere.test!user" "elsewhere.test!user"@example.test
    elsewhere.test!user@[127.0.0.1]
    @example.test:user@elsewhere.test
    @mx.example.test:user@elsewhere.test
    @[127.0.0.1]:user@elsewhere.test
    @example.test,@x.test:user@elsewhere.test
    user@elsewhere.test@[127.0.0.1] user@elsewhere.test@mx.example.test
    user@elsewhere.test. user@example.test.elsewhere.test
    user@notexample.test user@example.test@elsewhere.test
    user@example.test%elsewhere.test user@xn--exmple-cua.test
    user@elsewhere.test(example.test) user(c)@elsewhere.test
    user@elsewhere.test,bob@example.test
    bob@example.test,user@elsewhere.test
    user@elsewhere.test;bob@example.test
    user%x@elsewhere.test@example.test a%b%elsewhere.test@example.test
    user:elsewhere.test@example.test elsewhere.test:user@example.test
    @user@elsewhere.test user@@elsewhere.test user@example..test
    user@.example.test user@example.test. user@#1234 user@1234
    user@192.0.2.9 user|sh@elsewhere.test user@example,test <user@elsewhere.test>);
push @relay, 'user @example.test', 'user@example.test elsewhere.test',
    'user@ example.test', ' user@elsewhere.test',
    "user\xef\xbc\xa0elsewhere.test\@example.test",
    "user\xef\xb9\xabelsewhere.test\@example.test",
    "user\xef\xbc\x85elsewhere.test\@example.test",
    "user\@ex\xc3\xa4mple.test", "user\@example\xe3\x80\x82elsewhere.test",
    "user\@elsewhere.test\r", "user\@elsewhere.test\0\@example.test",
    "user\@elsewhere.test\n\@example.test";

subtest 'open relay' => sub {
	cmp_ok scalar(@relay), '>=', 46, scalar(@relay) . ' probes';
	for my $sender ('<>', '<user@example.test>', '<a@sender.test>',
	    '<postmaster@[127.0.0.1]>') {
		my $smtp = $gate->smtp;
		my @let_in;

		$smtp->command('EHLO client.test');
		for my $utf8 ('', ' SMTPUTF8') {
			like $smtp->command("MAIL FROM:$sender$utf8"),
			    qr/^250 /, "from $sender$utf8";
			for my $to (@relay) {
				my $reply = $smtp->command("RCPT TO:<$to>");

				# A bare LF makes two commands of it.
				$reply .= $smtp->reply if $to =~ /\n/;
				push @let_in, "$to: $reply"
				    unless $reply =~ /^5/ &&
				    $reply !~ /^[234]\d\d[ -]/m;
			}
			$smtp->command('RSET');
		}
		is "@let_in", '', 'no probe is let in';
	}
	my $smtp = $gate->smtp;
	$smtp->command('EHLO client.test');
	$smtp->command('MAIL FROM:<a@sender.test>');
	like $smtp->command('RCPT TO:<user@elsewhere.test> ' .
	    'ORCPT=rfc822;bob@example.test'), qr/^550 5\.7\.1 /,
	    'ORCPT opens nothing';
	like $smtp->command('RCPT TO:<bob@example.test>'), qr/^250 /,
	    'while our own are served';
};

subtest 'injected commands' => sub {
	for my $byte ("\r", "\n", "\0", "\xc2\x85", "\x85", "\x1b", "\x7f") {
		my $smtp = $gate->smtp;
		my $name = name($byte);
		my $reply;

		like $smtp->command("EHLO a${byte}b"), qr/^50[01] /,
		    "EHLO with $name";
		# What follows a bare LF is a command of its own.
		$smtp = $gate->smtp if $byte eq "\n";
		$smtp->command('EHLO client.test');
		for my $line ("MAIL FROM:<a${byte}b\@sender.test> SMTPUTF8",
		    "MAIL FROM:<a\@sender.test> ENVID=a${byte}b",
		    "MAIL FROM:<a\@sender.test> AUTH=a${byte}b") {
			like $smtp->command($line), qr/^50[01] /,
			    "MAIL with $name";
			$smtp->reply if $byte eq "\n";
		}
		like $smtp->command('MAIL FROM:<a@sender.test>'), qr/^250 /,
		    'MAIL';
		for my $line ("RCPT TO:<a${byte}b\@example.test>",
		    "RCPT TO:<a\@example.test> ORCPT=rfc822;a${byte}b") {
			like $smtp->command($line), qr/^50[01] /,
			    "RCPT with $name";
			$smtp->reply if $byte eq "\n";
		}
	}
	my $smtp = $gate->smtp;
	$smtp->command('EHLO client.test');
	like $smtp->command('MAIL FROM:<;for i in 0 1 2 3;do :;done;exit 0>'),
	    qr/^5/, 'a sender of shell commands (CVE-2020-7247)';
	$smtp->command('MAIL FROM:<a@sender.test>');
	my $reply = $smtp->command(
	    'RCPT TO:<${run{/usr/bin/touch$x}}@example.test>');
	like $reply, qr/^[25]\d\d /, 'a recipient to expand (CVE-2019-10149)';
	$gate->logs(qr/\$\{run\{/, 'is written as it stands')
	    if $reply =~ /^5/;
};

is join("\n", $gate->wild_lines), '', 'the log holds printable lines only';
is $gate->stop, 0, 'ends well';
done_testing;
