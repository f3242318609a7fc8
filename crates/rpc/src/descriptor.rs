//! What the built-in descriptor set says about methods and fields.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Methods and fields of every service and message of the platform, by full name. Read once; it never changes.
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    // A set that can't be read would be a defect of the build; names are missing then, and a test says so.
    let descriptors = FileDescriptorSet::decode(idempo_proto::DESCRIPTOR_SET).unwrap_or_default();
    Catalogue::of(&descriptors)
});

/// The methods that every server has besides its own.
const PLATFORM_METHODS: [&str; 5] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

#[derive(Default)]
struct Catalogue {
    /// Method → the full name of its request.
    methods: HashMap<String, String>,
    /// Message → field number → field name.
    messages: HashMap<String, BTreeMap<u32, String>>,
}

impl Catalogue {
    fn of(descriptors: &FileDescriptorSet) -> Self {
        let mut catalogue = Self::default();
        for file in &descriptors.file {
            for message in &file.message_type {
                catalogue.add_message(file.package(), message);
            }
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    catalogue.methods.insert(name, method.input_type().trim_start_matches('.').to_owned());
                }
            }
        }
        catalogue.methods.extend(PLATFORM_METHODS.map(|name| (name.to_owned(), String::new())));
        catalogue
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.add_message(&name, nested);
        }
        let fields = message.field.iter().filter_map(|field| Some((u32::try_from(field.number()).ok()?, field.name().to_owned())));
        self.messages.insert(name, fields.collect());
    }
}

/// The name of a message's field, such as `amount`; `#7` where the message or the field is unknown.
#[must_use]
pub fn field_name(message_full_name: &str, number: u32) -> String {
    let name = CATALOGUE.messages.get(message_full_name).and_then(|fields| fields.get(&number));
    name.cloned().unwrap_or_else(|| format!("#{number}"))
}

/// The number of a message's field, or `None` where there is no such field.
#[must_use]
pub fn field_number(message_full_name: &str, name: &str) -> Option<u32> {
    let fields = CATALOGUE.messages.get(message_full_name)?;
    fields.iter().find_map(|(number, field)| (field == name).then_some(*number))
}

/// The full name of a method's request message, such as `idempo.wallet.v1.GrantFundsRequest`.
#[must_use]
pub fn request_of(method: &str) -> Option<&'static str> {
    CATALOGUE.methods.get(method.trim_start_matches('/')).map(String::as_str).filter(|name| !name.is_empty())
}

/// The full name of a method (`package.Service/Method`, with or without a leading slash), where the platform has it.
#[must_use]
pub fn method(name: &str) -> Option<&'static str> {
    CATALOGUE.methods.get_key_value(name.trim_start_matches('/')).map(|(name, _)| name.as_str())
}

/// Every method of the platform, health and reflection included, in no order.
pub fn methods() -> impl Iterator<Item = &'static str> {
    CATALOGUE.methods.keys().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_by_their_numbers() {
        assert_eq!(field_name("idempo.wallet.v1.GrantFundsRequest", 1), "request_id");
        assert_eq!(field_name("idempo.wallet.v1.GrantFundsRequest", 4), "amount");
        assert_eq!(field_name("idempo.wallet.v1.GrantFundsRequest", 99), "#99");
        assert_eq!(field_name("no.Such", 1), "#1");
        assert_eq!(field_number("idempo.wallet.v1.ListEntriesRequest", "page_token"), Some(3));
        assert_eq!(field_number("idempo.wallet.v1.ListEntriesRequest", "nothing"), None);
    }

    #[test]
    fn methods_are_known_with_their_requests() {
        assert_eq!(method("/idempo.wallet.v1.WalletService/GrantFunds"), Some("idempo.wallet.v1.WalletService/GrantFunds"));
        assert_eq!(request_of("idempo.wallet.v1.WalletService/GrantFunds"), Some("idempo.wallet.v1.GrantFundsRequest"));
        assert_eq!(method("/grpc.health.v1.Health/Check"), Some("grpc.health.v1.Health/Check"));
        assert_eq!(request_of("grpc.health.v1.Health/Check"), None);
        assert_eq!(method("/idempo.wallet.v1.WalletService/Steal"), None);
    }

    #[test]
    fn every_mutation_has_its_key_in_field_1() {
        let with_key = methods().filter_map(request_of).filter(|request| field_number(request, "request_id").is_some());
        let misplaced: Vec<_> = with_key.filter(|request| field_number(request, "request_id") != Some(1)).collect();
        assert!(misplaced.is_empty(), "{misplaced:?}");
    }
}
