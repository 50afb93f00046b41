/* A look-up has three answers: "cannot tell" is never "no". */
#ifndef BASE_ANSWER_H
#define BASE_ANSWER_H

enum answer {
	ANSWER_NO,
	ANSWER_YES,
	ANSWER_UNKNOWN		/* the source did not answer; why says so */
};

#endif
