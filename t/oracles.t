#!/usr/bin/perl
# SPF by the conformance suite of RFC 7208, which pyspf's package brings along.
# Then SPF and DKIM by others: generated cases are judged by our filters and by pyspf
# and dkimpy, which share no code with us.  Where the two differ, a rule below
# has to say why, with the section that decides; what no rule explains fails.
# ORACLE_SEED and ORACLE_COUNT ask for other cases, and more, ORACLE_SHOW for
# more of those that differ.
use strict;
use warnings;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $seed = $ENV{ORACLE_SEED} // 7208;
my $count = $ENV{ORACLE_COUNT} // 800;
my $show = $ENV{ORACLE_SHOW} // 3;
my ($suite) = grep { -e } map { "$_/usr/share/doc/python3-spf/" .
    'rfc7208-tests.yml.gz' } '', build_dir() . '/t/debian';
my $oracle = build_dir() . '/t/oracle/oracle';

# Each: name with RFC and section, code that is true for what it explains.  It
# gets a hash: ours, theirs (results), why, their_why, text (the case), message.
my @spf_rules = (
	[ 'RFC 7208, 4.6.4: void terms are counted, not each look-up of one',
	    sub { $_[0]{their_why} =~ /Void lookup limit/ } ],
	[ 'RFC 7208, 6: what an unknown modifier holds does not matter', sub {
		$_[0]{their_why} =~ /c,r,t macros/ &&
		    $_[0]{text} =~ / x\.y-z=%\{d\}%\{c\}/ } ],
	[ 'RFC 5234, 2.3: names of modifiers in any case', sub {
		$_[0]{text} =~ / Redirect=/ } ],
	[ 'RFC 7208, 6: an unknown modifier may stand twice', sub {
		$_[0]{their_why} =~ /(?:foo|x\.y-z)= MUST appear at most once/
	    } ],
	[ 'RFC 7208, 7.3: labels go from the left until the name fits', sub {
		$_[0]{text} =~ /(?:%\{l\}\.){20}/ } ],
	[ 'RFC 7208, 4.8: a name with an empty label has no defined outcome',
	    sub { $_[0]{why} =~ /void/ && $_[0]{text} =~ /^sender a\.\.b@/m } ],
	[ 'RFC 7208, 5.2: an include of itself is left to the limits', sub {
		$_[0]{their_why} =~ /trivial recursion/ } ],
	[ 'RFC 7208, 7.1: keeping 0 labels is an error', sub {
		$_[0]{why} =~ /bad macro/ && $_[0]{text} =~ /%\{d0\}/ } ],
	[ 'RFC 7208, 7.1: the r of a macro stands behind the digits', sub {
		$_[0]{why} =~ /bad macro/ && $_[0]{text} =~ /%\{dr2\}/ } ],
	[ 'RFC 7208, 5.5: look-ups that fail make ptr match nothing', sub {
		$_[0]{theirs} eq 'temperror' &&
		    $_[0]{text} =~ /[ +?~-]ptr\b|%\{p/ &&
		    $_[0]{text} =~ / (?:PTR|A|AAAA) !$/m } ],
);
my @dkim_rules = (
	[ 'RFC 5322, 2.2: a CR or LF of its own ends no line', sub {
		$_[0]{message} =~ /(?<!\r)\n|\r(?!\n)/ } ],
	[ 'RFC 6376, 3.4.4: white space behind the last line, CRLF or not',
	    sub { $_[0]{message} =~ /[ \t]\z/ } ],
	[ 'RFC 6376, 8.15: an unsigned second field that must be single', sub {
		$_[0]{ours} eq 'policy' && $_[0]{why} =~ /is not signed/ } ],
	[ 'RFC 6376, 3.6.1: h= of the key', sub {
		$_[0]{why} eq 'not a key for this hash' } ],
	[ 'RFC 6376, 3.6.1: t=s of the key', sub {
		$_[0]{why} eq 'not a key for subdomains' } ],
	[ 'RFC 6376, 5.4: From has to be signed', sub {
		$_[0]{why} =~ /^(?:From is not signed|no h=)$/ } ],
	[ 'RFC 6376, 3.5: x= is over; dkimpy allows ten hours', sub {
		$_[0]{why} eq 'signature expired' } ],
	[ 'RFC 6376, 3.5: q= is a list', sub {
		$_[0]{their_why} =~ /q= value is not dns/ } ],
	[ 'RFC 5322, 4.5: white space before the colon of a field', sub {
		$_[0]{ours} eq 'pass' &&
		    $_[0]{message} =~ /^[\w.-]+[ \t]+:/m } ],
	[ 'RFC 6376, 3.4.1: simple keeps white space at the end of a field',
	    sub { $_[0]{theirs} eq 'pass' && $_[0]{message} =~
		/^DKIM-Signature:[^\n]*(?:\n[ \t][^\n]*)*[ \t]\r\n\S/mi } ],
	[ 'RFC 6376, 3.7: white space behind the value of b= goes with it',
	    sub { $_[0]{ours} eq 'pass' &&
		$_[0]{message} =~ m{[;:\s]b\s*=[A-Za-z0-9+/=\s]+\s;} } ],
	[ 'RFC 6376, 3.5: tags in any order; dkimpy wants something before b=',
	    sub { $_[0]{ours} eq 'pass' &&
		$_[0]{message} =~ /^DKIM-Signature:b\s*=/mi } ],
	[ 'RFC 5234, 2.3: values of c= in any case', sub {
		$_[0]{their_why} =~ /invalid c= value: b'Relaxed'/ } ],
	[ 'RFC 6376, 3.5: l= must not exceed the body', sub {
		$_[0]{why} eq 'l= exceeds the body' } ],
);

# Between our engine (ours) and libopendkim (theirs).
my @engine_rules = (
	[ 'both hashes are wrong, and each engine begins with another', sub {
		$_[0]{ours} eq 'fail' && $_[0]{theirs} eq 'fail' } ],
	[ 'b= of a length that no key has', sub { $_[0]{ours} eq 'fail' &&
		$_[0]{their_why} eq 'signature data corrupt' } ],
	[ 'a small or malformed key is refused before anything is hashed',
	    sub { $_[0]{why} =~ /^(?:key too small|malformed key)$/ &&
		$_[0]{theirs} eq 'fail' } ],
);

# "NUMBER KEY RESULT REASON" as { "NUMBER KEY" => [RESULT, REASON] }
sub answers {
	my ($text) = @_;
	return map { /^(\d+ \S+) (\S+) ?(.*)/ ? ($1 => [$2, $3]) : () }
	    split /\n/, $text;
}

# The cases' texts by their numbers.
sub cases {
	my ($text) = @_;
	return $text =~ /^case (\d+)\n(.*?)\nend$/msg;
}

sub explanation {
	my ($rules, $case) = @_;

	for my $rule (@$rules) {
		return $rule->[0] if $rule->[1]->($case);
	}
	return undef;
}

# Makes the cases and others' answers: names of two files.
sub make {
	my ($name, @arguments) = @_;
	my @files = map { test_dir() . "/$name.$_" } qw(cases answers);
	my ($status, $output) = run_command('/usr/bin/python3', source_dir() .
	    "/t/oracle/${name}_cases", $seed, $count, @files, @arguments);

	is($status, 0, "$name: cases") or diag($output);
	return @files;
}

# What a filter of ours says of the cases.
sub ask {
	my ($name, $cases) = @_;
	my ($status, $output) = run_command($oracle, $name, $cases);

	is($status, 0, "$name: our answers") or diag($output);
	ok(sanitizers_silent($output), "$name: no fault found");
	return $output;
}

# compare(name, rules, same, file of cases, ours, theirs): how far they agree.
sub compare {
	my ($name, $rules, $same, $cases, $ours, $theirs) = @_;
	my %texts = cases(read_file($cases));
	my %ours = answers($ours);
	my %theirs = answers($theirs);
	my (%explained, @unexplained);
	my $agreed = 0;

	for my $key (sort keys %theirs) {
		my ($number) = $key =~ /^(\d+)/;
		my ($message) = $texts{$number} =~ /^message \d+\n(.*)/ms;
		my %case = (text => $texts{$number}, message => $message,
		    ours => $ours{$key}[0] // 'nothing',
		    why => $ours{$key}[1] // '', theirs => $theirs{$key}[0],
		    their_why => $theirs{$key}[1]);

		if ($same->(\%case)) {
			$agreed++;
			next;
		}
		my $rule = explanation($rules, \%case);
		$explained{$rule}++ if defined $rule;
		push @unexplained, "$key: ours $case{ours} ($case{why}), " .
		    "theirs $case{theirs} ($case{their_why})\n$case{text}"
		    if !defined $rule;
	}
	diag("$name: " . keys(%theirs) . " answers, $agreed agree, " .
	    @unexplained . " unexplained; seed $seed");
	diag("  $explained{$_} by $_") for sort keys %explained;
	is(scalar(keys %texts), $count, "$name: all cases were made");
	ok($agreed > keys(%theirs) / 2, "$name: most agree");
	ok(!@unexplained, "$name: all differences are explained") or
	    diag(join "\n", grep { defined } @unexplained[0 .. $show - 1]);
}

# The suite: results, of several that it allows any, and explanations (in which
# it has the digits of IPv6 in the other case than RFC 7208, 7.4).
sub conform {
	my ($cases, $answers) = map { test_dir() . "/suite.$_" }
	    qw(cases answers);
	my ($status, $output) = run_command('/usr/bin/python3',
	    source_dir() . '/t/oracle/spf_suite', $suite // 'no suite', $cases,
	    $answers);

	is($status, 0, 'suite: cases') or diag($output);
	my %texts = cases(read_file($cases));
	my %ours = answers(ask('spf', $cases));
	my ($count, @wrong) = (0);
	for (split /\n/, read_file($answers)) {
		my ($number, $key, $results, $name, $text) =
		    /^(\d+) (\S+) (\S+) (\S+) (.*)/ or die "bad line: $_";
		my ($result, $why) = @{ $ours{"$number $key"} // ['nothing',
		    ''] };
		my $explained = ($ours{"$number explained"} // ['', '-'])->[1];

		$count++;
		push @wrong, "$name: $result ($why), not $results\n" .
		    $texts{$number} if $result !~ /^(?:$results)$/;
		push @wrong, "$name: explained as $explained, not $text\n" .
		    $texts{$number} if $result eq 'fail' && $text ne '?' &&
		    lc $explained ne lc $text;
	}
	cmp_ok($count, '>=', 200, 'suite: it is whole');
	ok(!@wrong, "suite: all $count cases are right") or
	    diag(join "\n", scalar(@wrong) . ' are wrong',
	    grep { defined } @wrong[0 .. $show - 1]);
}

conform();
my ($cases, $answers) = make('spf');
compare('spf', \@spf_rules, sub { $_[0]{ours} eq $_[0]{theirs} }, $cases,
    ask('spf', $cases), read_file($answers));

# dkimpy knows pass and fail only.
my ($rsa) = dkim_key('rsa', 1024);
my ($weak) = dkim_key('weak', 768);
my ($ed) = dkim_key('ed');
($cases, $answers) = make('dkim', $rsa, $weak, $ed);
my %said = map { $_ => ask($_, $cases) } qw(openssl libopendkim);
compare($_, \@dkim_rules, sub {
	($_[0]{ours} eq 'pass') == ($_[0]{theirs} eq 'pass') }, $cases,
    $said{$_}, read_file($answers)) for sort keys %said;
compare('both engines', \@engine_rules, sub {
	$_[0]{ours} eq $_[0]{theirs} && $_[0]{why} eq $_[0]{their_why} },
    $cases, $said{openssl}, $said{libopendkim});
done_testing;
