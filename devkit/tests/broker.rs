//! The broker against mosquitto: one list of cases (broker/cases.rs), played on ours and on the real one, which must answer alike packet by
//! packet. The real one is set as k8s/demonstration/mosquitto.conf says.
//!
//! `cargo test -p devkit --test broker -- --include-ignored` plays both.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "broker/cases.rs"]
mod cases;
#[path = "broker/client.rs"]
mod client;
#[path = "broker/ground.rs"]
mod ground;
#[path = "broker/packets.rs"]
mod packets;

use ground::Ground;

/// Each becomes two tests: one on ours, and one on mosquitto.
macro_rules! cases {
    ($($case:ident)*) => {
        mod ours {
            $(#[test] fn $case() { super::cases::$case(&mut super::Ground::ours()); })*
        }
        mod mosquitto {
            $(#[test] #[ignore = "needs mosquitto"] fn $case() { super::cases::$case(&mut super::Ground::mosquitto()); })*
        }
    };
}

cases! {
    a_connection_begins_with_a_connect
    a_malformed_connect_closes_the_connection
    another_protocol_level_is_refused
    an_empty_client_id_is_given_a_name_only_for_a_clean_session
    a_second_connect_closes_the_connection
    a_malformed_packet_closes_the_connection
    what_is_odd_but_harmless_is_passed_over
    a_bad_topic_closes_the_connection
    a_bad_filter_closes_the_connection
    a_message_goes_to_those_who_subscribed
    a_message_has_the_lower_qos_of_its_publisher_and_its_subscription
    a_message_at_qos_2_is_passed_on_once_when_it_is_released
    another_message_with_the_packet_id_of_one_that_is_held_replaces_it
    a_release_of_nothing_is_answered
    what_is_held_lasts_as_long_as_the_session
    a_client_sees_its_own_message_before_the_acknowledgement
    wildcards_match_as_they_should
    a_subscription_again_replaces_the_qos
    overlapping_subscriptions_deliver_once
    after_an_unsubscribe_nothing_comes
    a_retained_message_comes_with_the_subscription
    retained_messages_come_again_with_each_matching_filter
    a_retained_message_at_qos_2_is_retained_when_it_is_released
    an_empty_retained_message_clears
    a_retained_message_for_an_absent_session_is_not_marked_so
    a_clean_session_leaves_nothing
    a_lasting_session_keeps_its_subscriptions
    a_clean_connect_ends_a_lasting_session
    an_absent_session_gets_what_was_published_in_order
    what_is_not_acknowledged_comes_again_in_order_and_marked
    twenty_messages_are_in_flight_and_the_others_wait
    acknowledgements_may_come_in_any_order
    an_acknowledgement_of_nothing_is_passed_over
    messages_at_qos_0_pass_those_that_wait
    packet_ids_begin_again_after_the_last
    a_second_client_with_the_id_takes_over
    a_takeover_of_a_lasting_session_goes_on_with_it
    a_takeover_says_the_will_only_where_the_session_ends
    a_will_is_said_when_the_connection_breaks
    a_will_is_said_after_a_protocol_error
    a_will_is_not_said_after_a_goodbye
    a_will_can_be_retained
    a_silent_client_is_cut_off_after_its_keep_alive
    a_message_of_17_megabytes_passes
    a_burst_arrives_complete_and_in_order
    a_client_that_does_not_read_holds_up_nobody
    sessions_and_retained_messages_survive_a_restart
    no_will_is_said_by_a_broker_that_is_killed
}
