//! What holds of every history: of what publishers were told, what is in Kafka, and what receipts say. [`ledger`](crate::ledger)
//! and [`judgement`](crate::judgement) check it, and each rule is seen to be broken by a history that breaks nothing else
//! (tests of [`judgement`](crate::judgement)).

macro_rules! rules {
    ($($(#[$meta:meta])* $rule:ident = $sentence:literal,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule { $($(#[$meta])* $rule,)+ }

        impl Rule {
            pub const ALL: &[Rule] = &[$(Rule::$rule,)+];

            /// What holds.
            pub fn sentence(self) -> &'static str {
                match self { $(Rule::$rule => $sentence,)+ }
            }
        }
    };
}

rules! {
    StoredIsThere = "what was answered 201 is in Kafka",
    StoredOnce = "what was answered 201 is in Kafka once",
    StoredWhereTold = "what was answered 201 is where the answer says",
    HandedOffIsThere = "what was answered 202 is in Kafka, unless its bytes are told to be damaged",
    HandedOffOnce = "what was answered 202 is in Kafka once, where no gateway was killed",
    /// Of all messages together: a gateway that was killed does not know what was under way.
    UnknownAtMostOnce = "what was answered 504, or not at all, is in Kafka once at most",
    RefusedIsNotThere = "what was answered that it was not stored is not in Kafka",
    KeyIsKept = "a message has the key that it was published with",
    NobodyElse = "nothing is in Kafka that nobody published",
    /// Of the publishers, not of the gateway.
    ValuesDiffer = "no two messages have one value",
    KeyInOnePartition = "all messages of a key are in one partition",
    InOrder = "messages of a connection and key have the order in which they were sent",
    ProvesSomething = "something was handed off",
    InTime = "every answer comes in time",
    SaysWhenToRetry = "429 and 503 say when to try again",
    HoldsConnections = "no connection breaks, where no gateway ended",
    RefusesNothingInVain = "nothing is refused that could be kept",
    GivesReceipts = "what is handed off has a receipt",
    AnswersReceipts = "a receipt that was given is answered",
    ReceiptsSayDelivered = "receipts say that everything is delivered",
    ReceiptsSayWhere = "receipts say where messages are",
}
