//! Promises about the XDP program, in the running kernel. They need root: without it they are
//! listed as ignored.

mod agreement;
mod attaching;
mod foreign;
mod frames;
mod judging;
mod load;
mod numbers;
mod pinning;
mod publishing;
mod reporting;
mod world;

use libtest_mimic::{Arguments, Trial};

type Promise = (&'static str, fn() -> world::Outcome);

/// Names functions as promises.
#[macro_export]
macro_rules! promises {
    ($module:ident: $($promise:ident),+ $(,)?) => {
        [$((stringify!($promise), $module::$promise as fn() -> $crate::world::Outcome)),+]
    };
}

fn main() {
    let root = nix::unistd::geteuid().is_root();
    let promises: Vec<Promise> = [
        &promises![judging:
            a_denied_source_is_dropped_in_every_shape,
            a_source_in_no_list_passes_in_every_shape,
            what_is_not_ip_passes_and_neighbour_discovery_too,
            neighbour_discovery_passes_in_both_scopes_behind_any_tags,
            a_mapped_source_is_judged_as_the_ipv4_address_in_it,
            in_scope_mode_only_tcp_to_a_guarded_port_is_dropped,
            a_frame_cut_off_anywhere_is_judged_as_in_user_space,
            an_observed_list_counts_exactly_what_it_would_drop_and_drops_nothing,
            every_packet_is_counted_once,
            without_a_generation_everything_passes,
            a_new_generation_replaces_the_old_one_whole,
            blocks_that_are_no_generation_leave_the_old_one_in_force,
        ][..],
        &promises![agreement:
            the_kernel_decides_every_address_as_user_space_explains_it,
        ][..],
        &promises![reporting:
            the_first_drop_of_a_client_is_told_with_all_its_circumstances,
            drops_that_follow_are_told_as_growth,
            all_reports_add_up_to_all_drops,
            a_flood_of_clients_is_told_up_to_the_budget,
            a_flood_that_is_not_looked_up_is_counted_to_the_packet,
            ten_thousand_new_clients_of_one_second_are_told_one_by_one_and_so_is_what_they_go_on_with,
            an_observed_client_passes_and_is_told_as_observed,
            an_observed_flood_is_not_told_as_drops,
        ][..],
        &promises![attaching:
            a_veth_runs_the_program_in_its_driver_and_is_left_as_it_was,
            no_packet_of_a_denied_source_passes_while_generations_change,
            loopback_falls_back_to_generic_and_says_why,
            native_mode_on_loopback_is_refused_with_the_remedy,
            a_foreign_program_is_left_alone_and_named,
            an_interface_made_anew_is_not_taken_for_a_guarded_one,
            a_second_card_does_not_replace_the_first,
            a_missing_interface_is_named,
            an_interface_without_ethernet_is_refused,
            nothing_is_attached_before_the_first_publication,
        ][..],
        &promises![pinning:
            drops_go_on_without_a_card_and_the_next_one_goes_on_counting,
            tables_of_another_version_are_replaced_without_a_packet_passing,
            the_ports_of_a_new_card_are_guarded_and_not_those_of_the_last,
            an_interface_that_is_not_wanted_any_more_is_detached,
            a_mode_that_is_not_wanted_any_more_gives_way,
            a_mode_that_the_driver_refuses_leaves_the_interface_guarded_in_the_former_one,
            a_generic_program_is_taken_over_in_its_mode_and_auto_says_why,
            a_list_keeps_its_counter_under_the_next_card,
            pins_are_used_by_one_card_at_a_time,
            pins_of_another_network_namespace_are_left_alone,
            pins_outside_a_bpf_file_system_are_refused_with_the_remedy,
        ][..],
        &promises![publishing:
            ten_thousand_publications_under_load_mistake_no_packet,
        ][..],
    ]
    .concat();
    let fragments = promises![judging: a_frame_in_fragments_is_judged_like_one_in_one_buffer];
    let chooses = world::kernel() >= (6, 18);
    if !root {
        eprintln!("ignored, because they need root to load XDP programs: {} promises", promises.len());
    }
    if !chooses {
        eprintln!("ignored, because only Linux 6.18 can make such frames: {}", fragments[0].0);
    }
    let promises = promises.into_iter().map(|promise| (promise, root));
    let fragments = fragments.into_iter().map(|promise| (promise, root && chooses));
    let trials = promises
        .chain(fragments)
        .map(|((name, promise), possible)| {
            Trial::test(name, move || promise().map_err(Into::into)).with_ignored_flag(!possible)
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
